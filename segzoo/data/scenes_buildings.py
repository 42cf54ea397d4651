"""Buildings with windows, and fences, for the drawn data set `scenes`; sizes in metres."""

from __future__ import annotations

import dataclasses

import numpy as np

from segzoo.data.scenes_classes import BUILDING, FENCE, SIGN, WINDOW
from segzoo.data.scenes_dice import Array, Colour, Dice, Number, noise
from segzoo.data.scenes_ground import tinted
from segzoo.data.scenes_paint import Canvas, Patch, band, frontal, lateral, polygon, project, rectangle, screen

WALLS = (
    (178, 140, 116), (160, 92, 72), (196, 184, 164), (150, 148, 150), (206, 178, 128), (124, 118, 116),
    (180, 190, 186), (140, 156, 132), (212, 208, 204), (120, 128, 146),
)  # fmt: skip
ROOFS = ((136, 70, 56), (92, 84, 84), (112, 96, 84), (76, 80, 92), (150, 98, 76))
GLASS = ((58, 70, 84), (76, 88, 100), (44, 52, 62), (98, 112, 124))
BOARDS = ((196, 52, 48), (38, 92, 164), (232, 196, 70), (44, 128, 84), (226, 226, 222), (60, 58, 64))
TIMBERS = ((156, 120, 84), (212, 210, 204), (112, 92, 76), (122, 126, 128), (96, 112, 84), (178, 158, 130))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facade:
    """How the walls of one building look: colours, and the grid of its windows in metres."""

    wall: Colour
    trim: Colour
    glass: Colour
    storey: float
    bay: float
    sill: float
    head: float
    margin: float
    bricks: bool
    start: float


def draw_facade(dice: Dice) -> Facade:
    """A random look."""
    storey, bay = dice.between(2.7, 3.6), dice.between(1.9, 3.6)
    sill = dice.between(0.7, 1.1)
    return Facade(
        wall=dice.colour(WALLS),
        trim=dice.colour(((226, 222, 214), (120, 108, 100), (190, 182, 170))),
        glass=dice.colour(GLASS),
        storey=storey,
        bay=bay,
        sill=sill,
        head=dice.between(sill + 1.2, storey - 0.25),
        margin=bay * dice.between(0.16, 0.3),
        bricks=dice.chance(0.4),
        start=dice.between(0, 256),
    )


def building(
    canvas: Canvas, dice: Dice, inner: float, outer: float, near: float, far: float, height: float, house: bool
) -> None:
    """Draws a block: the wall towards the camera, the one along the road at X = inner, a house's pitched roof."""
    look = draw_facade(dice)
    light = canvas.light
    shop = not house and dice.chance(0.4)
    left, right = min(inner, outer), max(inner, outer)
    side_light = light.left if inner > 0 else light.right
    if house:
        _pitched_roof(canvas, dice, look, (left, right, near, far, height, inner))
    front = frontal(canvas.camera, near, left, right, 0.0, height)
    if front is not None:
        _wall(canvas, dice, front, (left, right, height), look, light.front, shop)
    side = lateral(canvas.camera, inner, near, far, 0.0, height)
    if side is not None:
        _wall(canvas, dice, side, (near, far, height), look, side_light, shop)


def _wall(
    canvas: Canvas, dice: Dice, patch: Patch, size: tuple[float, float, float], look: Facade, light: float, shop: bool
) -> None:
    start, end, height = size
    shade = 0.94 + (noise(look.start + patch.up * 9.0, patch.along * 9.0) - 0.5) * 0.22
    if look.bricks:
        course = patch.up / 0.34 - np.floor(patch.up / 0.34)
        shade = shade - (course < 0.28) * 0.16 * np.clip(patch.scale_up * 0.06, 0.0, 1.0)
    shade = shade - np.clip(0.12 - patch.up * 0.04, 0.0, 0.12)
    whole = rectangle(patch, start, end, 0.0, height)
    canvas.paint(patch, whole, tinted(look.wall, light * shade * np.ones_like(whole)), BUILDING)
    cornice = rectangle(patch, start, end, height - 0.35, height)
    canvas.paint(patch, cornice, _lit(look.trim, light), BUILDING)
    _windows(canvas, patch, size, look, light, look.storey if shop else 0.0)
    middle = start + (end - start) * dice.between(0.3, 0.7)
    if shop:
        _shop_front(canvas, dice, patch, size, look, light)
    door = rectangle(patch, middle - 0.55, middle + 0.55, 0.0, 2.1)
    canvas.paint(patch, door, _lit(dice.colour(((96, 66, 50), (60, 70, 84), (120, 44, 40))), light), BUILDING)


def _lit(colour: Colour, light: float) -> Colour:
    return (colour[0] * light, colour[1] * light, colour[2] * light)


def _windows(
    canvas: Canvas, patch: Patch, size: tuple[float, float, float], look: Facade, light: float, bottom: float
) -> None:
    """The grid of windows above `bottom`; those of a few pixels stay part of the wall."""
    start, end, height = size
    bays, storeys = int((end - start) / look.bay), int((height - 0.4) / look.storey)
    if bays < 1 or storeys < 1:
        return
    inset = (end - start - bays * look.bay) / 2
    across, rise = (patch.along - start - inset) / look.bay, patch.up / look.storey
    bay, storey = np.floor(across), np.floor(rise)
    inside = ((bay >= 0) & (bay < bays)) & ((storey >= 0) & (storey < storeys) & (patch.up > bottom))
    along, up = (across - bay) * look.bay, (rise - storey) * look.storey
    legible = (look.bay - 2 * look.margin) * patch.scale_along > 3.0
    limit = np.where(legible & ((look.head - look.sill) * patch.scale_up > 3.0), 1.0, 0.45)

    def pane(border: float) -> Array:
        wide = band(along, look.margin - border, look.bay - look.margin + border, patch.scale_along)
        return np.minimum(wide * band(up, look.sill - border, look.head + border, patch.scale_up) * inside, limit)

    canvas.paint(patch, pane(0.12), _lit(look.trim, light), None)
    chosen = noise(look.start + storey * 37.0, bay * 53.0 + look.start)
    gleam = 0.7 + chosen * 0.5 + (up - look.sill) * 0.16
    glass = tinted(look.glass, light * gleam * np.ones_like(inside))
    if canvas.light.night:
        shining = (chosen > 0.5)[..., None]
        glass = np.where(shining, np.asarray((236, 196, 120), np.float32), glass * np.float32(0.6))
    bars = np.abs(along - look.bay / 2) * patch.scale_along < 0.5
    glass = np.where((bars & (patch.scale_along > 14.0))[..., None], np.asarray(look.trim, np.float32) * light, glass)
    canvas.paint(patch, pane(0.0), glass, WINDOW)


def _shop_front(
    canvas: Canvas, dice: Dice, patch: Patch, size: tuple[float, float, float], look: Facade, light: float
) -> None:
    """A wide window on the ground floor and, often, a coloured board above it."""
    start, end, _ = size
    first, last = start + 0.5, end - 0.5
    if last - first < 2.0:
        return
    pane = rectangle(patch, first, last, 0.5, 2.3)
    gleam = 0.9 + (noise(patch.up * 14.0, look.start + patch.along * 14.0) - 0.5) * 0.9
    colour = (220, 190, 130) if canvas.light.night else look.glass
    canvas.paint(patch, pane, tinted(colour, gleam * light), WINDOW)
    if dice.chance(0.75):
        board = rectangle(patch, first + 0.3, last - 0.3, 2.4, dice.between(2.9, 3.2))
        canvas.paint(patch, board, _lit(dice.colour(BOARDS), light), SIGN)
        dots = (noise(look.start, patch.along * 26.0) > 0.55) & (np.abs(patch.up - 2.68) < 0.13)
        canvas.paint(patch, board * dots * 0.49, (235, 235, 228), None)


def _pitched_roof(
    canvas: Canvas, dice: Dice, look: Facade, size: tuple[float, float, float, float, float, float]
) -> None:
    """A gable roof; its ridge runs along the road or across it."""
    left, right, near, far, height, inner = size
    light, camera = canvas.light, canvas.camera
    rise = (right - left) * dice.between(0.25, 0.45)
    tiles = dice.colour(ROOFS)
    slope = light.left if inner > 0 else light.right
    if dice.chance(0.5):
        middle, top = (left + right) / 2, height + rise
        gable = frontal(camera, near, left, right, height, top)
        if gable is not None:
            corners = [(left, height), (right, height), (middle, top)]
            canvas.paint(gable, polygon(gable, corners), _lit(look.wall, light.front), BUILDING)
        quad = [(inner, height, near), (inner, height, far), (middle, top, far), (middle, top, near)]
    else:
        middle, top, slope = (near + far) / 2, height + rise, light.front
        gable = lateral(camera, inner, near, far, height, top)
        if gable is not None:
            corners = [(near, height), (far, height), (middle, top)]
            side_light = light.left if inner > 0 else light.right
            canvas.paint(gable, polygon(gable, corners), _lit(look.wall, side_light), BUILDING)
        quad = [(left, height, near), (right, height, near), (right, top, middle), (left, top, middle)]
    patch = screen(camera, quad, near)
    if patch is not None:
        rows = 1.0 + (noise(patch.up * 3.0, patch.along * 0.7) - 0.5) * 0.35
        canvas.paint(patch, polygon(patch, project(camera, quad)), tinted(tiles, rows * slope * 1.05), BUILDING)


def fence(canvas: Canvas, dice: Dice, across: float, near: float, far: float, along_road: bool) -> None:
    """Draws a fence of boards, pickets or rails; what is seen through its gaps counts as fence too.

    Args:
        canvas: where.
        dice: the scene's draws.
        across: X of a fence along the road; depth Z of a fence across the view.
        near: where the fence begins: Z along the road, X across the view.
        far: where it ends.
        along_road: which of the two.
    """
    height = dice.between(1.0, 1.8)
    camera, light = canvas.camera, canvas.light
    if along_road:
        patch = lateral(camera, across, near, far, 0.0, height)
        bright = light.left if across > 0 else light.right
    else:
        patch, bright = frontal(camera, across, near, far, 0.0, height), light.front
    if patch is None:
        return
    kind = dice.pick(("boards", "pickets", "rails"))
    whole = rectangle(patch, near, far, 0.0, height)
    period = {"boards": 0.35, "pickets": 0.3, "rails": 2.4}[kind]
    share = {"boards": 0.92, "pickets": 0.55, "rails": 0.07}[kind]
    uprights = _stripes(patch.along, period, share, patch.scale_along)
    solid = uprights * np.ones_like(whole)
    for place in (0.3, 0.8) if kind == "pickets" else (0.45, 0.7, 0.95):
        if kind != "boards":
            rail = band(patch.up, height * place - 0.06, height * place + 0.06, patch.scale_up)
            solid = np.maximum(solid, rail)
    shade = bright * (0.9 + (noise(patch.up * 10.0, np.floor(patch.along / period) * 41.0) - 0.5) * 0.4)
    if kind == "boards":
        shade, solid = shade * (0.55 + 0.45 * uprights), np.ones_like(whole)
    colour = tinted(dice.colour(TIMBERS), shade * np.ones_like(whole))
    canvas.paint(patch, whole * solid, colour, FENCE, claim=whole)


def _stripes(position: Array, period: float, share: float, scale: Number) -> Array:
    """Coverage of stripes that fill `share` of each period; their mean where they are too fine to see."""
    phase = (position / period - np.floor(position / period)) * period
    return np.where(period * scale > 2.5, band(phase, 0.0, period * share, scale), share)
