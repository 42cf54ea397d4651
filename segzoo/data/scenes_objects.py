"""Trees, cars, persons, poles, signs and unlabelled things for the drawn data set `scenes`; sizes in metres."""

from __future__ import annotations

import numpy as np

from segzoo.data.scenes_classes import CAR, PERSON, POLE, SIGN, TREE
from segzoo.data.scenes_dice import Array, Colour, Dice, noise
from segzoo.data.scenes_ground import tinted
from segzoo.data.scenes_paint import (
    IGNORED,
    Canvas,
    Patch,
    ellipse,
    frontal,
    lateral,
    limb,
    polygon,
    project,
    rectangle,
    screen,
)

CROWNS = ((74, 110, 48), (96, 124, 56), (60, 92, 52), (126, 128, 58), (168, 116, 52), (150, 84, 54), (110, 138, 84))
NEEDLES = ((48, 76, 56), (58, 88, 60), (66, 84, 76))
BARKS = ((92, 74, 58), (108, 98, 86), (74, 62, 54))
PAINTS = (
    (188, 36, 36), (36, 66, 128), (206, 206, 208), (44, 46, 50), (120, 124, 128), (222, 220, 214),
    (56, 104, 74), (212, 168, 48), (132, 150, 168), (110, 58, 48),
)  # fmt: skip
CLOTHES = (
    (180, 46, 54), (44, 62, 116), (56, 58, 64), (206, 198, 186), (88, 122, 82), (222, 176, 66),
    (128, 84, 132), (92, 132, 168), (122, 96, 74), (228, 128, 96),
)  # fmt: skip
SKINS = ((236, 192, 160), (206, 156, 120), (150, 104, 76), (96, 66, 50))
METALS = ((118, 122, 124), (78, 82, 84), (150, 150, 148), (58, 78, 68), (110, 88, 66))
FACES = ((206, 36, 40), (30, 84, 168), (240, 206, 50), (236, 236, 232), (34, 118, 74), (232, 130, 40))


def _lit(colour: Colour, light: float) -> Colour:
    return (colour[0] * light, colour[1] * light, colour[2] * light)


def tree(canvas: Canvas, dice: Dice, across: float, depth: float, height: float) -> None:
    """Draws a broad-leaved tree, a conifer or a bush."""
    conifer = dice.chance(0.25)
    radius = height * (dice.between(0.16, 0.26) if conifer else dice.between(0.26, 0.42))
    patch = frontal(canvas.camera, depth, across - radius * 1.3, across + radius * 1.3, 0.0, height * 1.1)
    if patch is None:
        return
    trunk = height * (0.0 if height < 2.0 else dice.between(0.15, 0.38))
    wood = limb(patch, (across, 0.0), (across + dice.between(-0.2, 0.2), trunk + height * 0.2), height * 0.045 + 0.06)
    canvas.paint(patch, wood, _lit(dice.colour(BARKS), canvas.light.front), TREE)
    crown = _cone if conifer else _blobs
    inside, shine = crown(dice, patch, across, trunk, height, radius)
    start, fine = dice.between(0, 256), 60.0 / height
    leaves = noise(start + patch.up * fine, start + patch.along * fine, smooth=True)
    rough = noise(start + patch.up * fine * 2.7, patch.along * fine * 2.7)
    reach = np.minimum(radius * patch.scale_along, 60.0)
    coverage = np.clip((inside + (leaves - 0.5) * 0.5 + (rough - 0.5) * 0.25) * reach + 0.5, 0.0, 1.0)
    sunny = canvas.light.sun_side * (patch.along - across) / radius
    bright = 0.78 + shine * 0.22 + sunny * 0.16 + (leaves - 0.5) * 0.45 + (rough - 0.5) * 0.3
    colour = dice.colour(NEEDLES if conifer else CROWNS)
    canvas.paint(patch, coverage, tinted(colour, canvas.light.front * np.clip(bright, 0.3, 1.6)), TREE)


def _blobs(dice: Dice, patch: Patch, across: float, trunk: float, height: float, radius: float) -> tuple[Array, Array]:
    """A crown of overlapping ellipses: how far inside (1 at a middle, 0 at the edge), and -1..1 from shade to light."""
    inside = np.full(np.broadcast_shapes(patch.along.shape, patch.up.shape), -9.0)
    shine = np.zeros_like(inside)
    middle, half = (trunk + height) / 2, (height - trunk) / 2
    for _ in range(dice.integer(4, 7)):
        along = across + dice.between(-0.55, 0.55) * radius
        up = middle + dice.between(-0.5, 0.5) * half
        u = (patch.along - along) / (radius * dice.between(0.4, 0.75))
        v = (patch.up - up) / (half * dice.between(0.45, 0.7))
        depth = 1.0 - np.sqrt(u * u + v * v)
        shine = np.where(depth > inside, v, shine)
        inside = np.maximum(inside, depth)
    return inside, np.clip(shine, -1.0, 1.0)


def _cone(dice: Dice, patch: Patch, across: float, trunk: float, height: float, radius: float) -> tuple[Array, Array]:
    """A conifer of stacked skirts, in the same terms as `_blobs`."""
    foot = trunk * 0.5
    level = (patch.up - foot) / (height - foot)
    tiers = dice.integer(4, 7)
    skirt = level * tiers - np.floor(level * tiers)
    width = (1.0 - level) * (1.15 - 0.4 * skirt)
    inside = np.minimum(width - np.abs(patch.along - across) / radius, level * 4.0)
    return inside, np.broadcast_to(skirt - 0.5, inside.shape)


def car(canvas: Canvas, dice: Dice, across: float, depth: float, oncoming: bool) -> None:
    """Draws a car that points along the road, with the side that the camera sees of it."""
    light, camera = canvas.light, canvas.camera
    body = dice.colour(PAINTS, 20.0)
    width, length, height = dice.between(1.65, 1.95), dice.between(3.7, 4.8), dice.between(1.4, 1.8)
    waist = height * 0.58
    left, right, far = across - width / 2, across + width / 2, depth + length
    nose = length * dice.between(0.18, 0.28)
    cabin = (nose, length) if oncoming else (0.0, length - nose)
    side_at = left if left > 0 else right if right < 0 else None
    if side_at is not None:
        side = lateral(camera, side_at, depth, far, 0.0, height)
        if side is not None:
            bright = light.left if side_at > 0 else light.right
            _car_side(canvas, side, (depth, length, waist, height), cabin, body, bright)
    deck = [
        (left, waist, depth),
        (right, waist, depth),
        (right, waist, depth + cabin[0]),
        (left, waist, depth + cabin[0]),
    ]
    bonnet = screen(camera, deck, depth) if oncoming else None
    if bonnet is not None:
        canvas.paint(bonnet, polygon(bonnet, project(camera, deck)), _lit(body, light.front * 1.2), CAR)
    back = frontal(camera, depth, left, right, 0.0, height * 1.05)
    if back is not None:
        _car_end(canvas, dice, back, (left, right, waist, height), body, oncoming)


def _car_side(
    canvas: Canvas,
    patch: Patch,
    size: tuple[float, float, float, float],
    cabin: tuple[float, float],
    body: Colour,
    light: float,
) -> None:
    start, length, waist, height = size
    front, back = start + cabin[0], start + cabin[1]
    lean = height * 0.3
    canvas.paint(patch, rectangle(patch, start, start + length, 0.22, waist), _lit(body, light), CAR)
    roof = [(front, waist - 0.02), (back, waist - 0.02), (back - lean, height), (front + lean * 0.6, height)]
    canvas.paint(patch, polygon(patch, roof), _lit(body, light * 0.95), CAR)
    pane = [(front + 0.3, waist + 0.05), (back - 0.35, waist + 0.05), (back - lean - 0.1, height - 0.12),
            (front + lean * 0.7 + 0.1, height - 0.12)]  # fmt: skip
    canvas.paint(patch, polygon(patch, pane), _lit((54, 64, 76), light), CAR)
    for wheel in (0.19, 0.81):
        place = start + length * wheel
        canvas.paint(patch, ellipse(patch, place, 0.32, 0.34, 0.33), (30, 30, 32), CAR)
        canvas.paint(patch, ellipse(patch, place, 0.32, 0.18, 0.18), _lit((130, 132, 136), light), None)


def _car_end(
    canvas: Canvas,
    dice: Dice,
    patch: Patch,
    size: tuple[float, float, float, float],
    body: Colour,
    oncoming: bool,
) -> None:
    left, right, waist, height = size
    light = canvas.light.front
    for wheel in (left + 0.04, right - 0.26):
        canvas.paint(patch, rectangle(patch, wheel, wheel + 0.22, 0.0, 0.5), (26, 26, 28), CAR)
    canvas.paint(patch, rectangle(patch, left, right, 0.24, waist), _lit(body, light), CAR)
    taper = 0.12
    roof = [(left + 0.02, waist - 0.02), (right - 0.02, waist - 0.02), (right - taper, height), (left + taper, height)]
    canvas.paint(patch, polygon(patch, roof), _lit(body, light * 0.95), CAR)
    pane = [(left + 0.16, waist + 0.04), (right - 0.16, waist + 0.04), (right - 0.24, height - 0.14),
            (left + 0.24, height - 0.14)]  # fmt: skip
    sheen = 0.8 + (patch.up - waist) * 0.6
    canvas.paint(patch, polygon(patch, pane), tinted((60, 72, 86), light * sheen), CAR)
    canvas.paint(patch, rectangle(patch, left, right, 0.24, 0.42), _lit((52, 52, 56), light), CAR)
    middle = (left + right) / 2
    canvas.paint(patch, rectangle(patch, middle - 0.26, middle + 0.26, 0.46, 0.58), (224, 222, 210), None)
    lamp = (246, 240, 210) if oncoming else (196, 34, 30) if not canvas.light.night else (255, 60, 50)
    lift = waist - dice.between(0.12, 0.2)
    for place in (left + 0.2, right - 0.2):
        canvas.paint(patch, ellipse(patch, place, lift, 0.17, 0.1), lamp, None)


def crossing_car(canvas: Canvas, dice: Dice, across: float, depth: float) -> None:
    """Draws a car that drives across the view."""
    length, height = dice.between(3.7, 4.8), dice.between(1.4, 1.75)
    patch = frontal(canvas.camera, depth, across, across + length, 0.0, height)
    if patch is None:
        return
    nose = length * 0.24
    cabin = (nose, length - 0.1) if dice.chance(0.5) else (0.1, length - nose)
    _car_side(canvas, patch, (across, length, height * 0.58, height), cabin, dice.colour(PAINTS), canvas.light.front)


def person(canvas: Canvas, dice: Dice, across: float, depth: float) -> None:
    """Draws a standing or walking person."""
    height = dice.between(1.15, 1.95)
    half = height * 0.34
    patch = frontal(canvas.camera, depth, across - half, across + half, 0.0, height)
    if patch is None:
        return
    light = canvas.light.front
    stride, swing = height * dice.between(0.02, 0.15), height * dice.between(0.0, 0.12)
    trousers, shirt = _lit(dice.colour(CLOTHES), light * 0.9), _lit(dice.colour(CLOTHES), light)
    skin, hair = _lit(dice.colour(SKINS), light), _lit(dice.colour(BARKS), light * 0.7)
    hip, shoulder = height * 0.5, height * 0.82
    for side in (-1.0, 1.0):
        foot = across + side * stride
        leg = limb(patch, (foot, 0.0), (across + side * height * 0.045, hip), height * 0.085)
        canvas.paint(patch, leg, trousers, PERSON)
        canvas.paint(patch, ellipse(patch, foot, 0.03, height * 0.06, 0.06), (38, 34, 32), PERSON)
        hand = (across + side * (height * 0.13 + swing), height * 0.46)
        arm = limb(patch, hand, (across + side * height * 0.12, shoulder), height * 0.06)
        canvas.paint(patch, arm, _lit(shirt, 0.88), PERSON)
        canvas.paint(patch, ellipse(patch, hand[0], hand[1], height * 0.03, height * 0.03), skin, PERSON)
    hem = height * (dice.between(0.28, 0.4) if dice.chance(0.3) else 0.46)
    broad, narrow = height * 0.135, height * dice.between(0.09, 0.14)
    torso = [(across - narrow, hem), (across + narrow, hem), (across + broad, shoulder), (across - broad, shoulder)]
    folds = 0.95 + (noise(patch.up * 30.0, patch.along * 60.0) - 0.5) * 0.3
    canvas.paint(patch, polygon(patch, torso), tinted(shirt, folds), PERSON)
    canvas.paint(patch, ellipse(patch, across, height * 0.915, height * 0.06, height * 0.08), hair, PERSON)
    canvas.paint(patch, ellipse(patch, across, height * 0.9, height * 0.048, height * 0.062), skin, PERSON)


def lamp_post(canvas: Canvas, dice: Dice, across: float, depth: float) -> None:
    """Draws a street lamp with an arm towards the road, or a telegraph pole with cross-bars."""
    height, metal = dice.between(4.5, 8.5), _lit(dice.colour(METALS), canvas.light.front)
    arm = dice.between(0.9, 2.0) * (-1.0 if across > 0 else 1.0)
    patch = frontal(canvas.camera, depth, across - 2.1, across + 2.1, 0.0, height + 0.4)
    if patch is None:
        return
    width = dice.between(0.2, 0.36)
    canvas.paint(patch, limb(patch, (across, 0.0), (across, height), width), metal, POLE)
    if dice.chance(0.6):
        bar = rectangle(patch, min(across, across + arm), max(across, across + arm), height - 0.2, height)
        canvas.paint(patch, bar, metal, POLE)
        lamp = (255, 236, 170) if canvas.light.night else (214, 214, 204)
        canvas.paint(patch, ellipse(patch, across + arm, height - 0.16, 0.45, 0.2), lamp, POLE)
    else:
        for level in (0.97, 0.88):
            bar = rectangle(patch, across - 1.0, across + 1.0, height * level - 0.2, height * level)
            canvas.paint(patch, bar, metal, POLE)


def traffic_sign(canvas: Canvas, dice: Dice, across: float, depth: float) -> None:
    """Draws a sign on a pole: round, triangular, a diamond, a plate, or a large board on two poles."""
    kind = dice.pick(("round", "triangle", "diamond", "plate", *(("board", "board") if depth > 9.0 else ())))
    size = dice.between(0.8, 1.3) if kind == "board" else dice.between(0.42, 0.65)
    middle = dice.between(2.0, 3.0) + (size * 0.5 if kind == "board" else 0.0)
    wide = size * 1.8 if kind == "board" else size
    patch = frontal(canvas.camera, depth, across - wide, across + wide, 0.0, middle + size)
    if patch is None:
        return
    light = canvas.light.front
    rim, field = _lit(dice.colour(FACES), light), _lit(dice.colour(FACES), light)
    metal = _lit(dice.colour(METALS), light)
    for foot in (across - wide * 0.7, across + wide * 0.7) if kind == "board" else (across,):
        canvas.paint(patch, limb(patch, (foot, 0.0), (foot, middle), 0.18), metal, POLE)
    for share, colour in ((1.0, rim), (0.76, field)):
        canvas.paint(patch, _outline(patch, kind, (across, middle), wide * share, size * share), colour, SIGN)
    glyph = noise(dice.between(0, 256) + patch.up * 60.0, dice.between(0, 256) + patch.along * 60.0) > 0.62
    plate = _outline(patch, kind, (across, middle), wide * 0.6, size * 0.6)
    canvas.paint(patch, plate * glyph, _lit((40, 40, 44), light), None)


def _outline(patch: Patch, kind: str, middle: tuple[float, float], wide: float, high: float) -> Array:
    along, up = middle
    if kind == "round":
        return ellipse(patch, along, up, wide, high)
    if kind == "triangle":
        return polygon(patch, [(along - wide, up - high * 0.8), (along + wide, up - high * 0.8), (along, up + high)])
    if kind == "diamond":
        return polygon(patch, [(along, up - high), (along + wide, up), (along, up + high), (along - wide, up)])
    return rectangle(patch, along - wide, along + wide, up - high, up + high)


def unlabelled_thing(canvas: Canvas, dice: Dice, across: float, depth: float) -> None:
    """Draws a boulder, a bin or a crate; its pixels are to be ignored."""
    size = dice.between(0.4, 0.9)
    patch = frontal(canvas.camera, depth, across - size, across + size, 0.0, size * 2)
    if patch is None:
        return
    shade = canvas.light.front * (0.9 + (noise(patch.up * 20.0, patch.along * 20.0) - 0.5) * 0.6)
    colour = tinted(dice.colour((*METALS, *PAINTS)), shade * (0.7 + patch.up * 0.3))
    shape = ellipse(patch, across, size * 0.6, size, size * 0.7)
    if dice.chance(0.5):
        shape = rectangle(patch, across - size * 0.5, across + size * 0.5, 0.0, size * 1.4)
    canvas.paint(patch, shape * (patch.up > 0.0), colour, IGNORED)
