"""What stands where in a drawn scene: weather, camera, the plan of the ground, and the things on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from segzoo.data.scenes_buildings import building, fence
from segzoo.data.scenes_classes import BUILDING, MOUNTAIN, TREE
from segzoo.data.scenes_dice import Colour, Dice
from segzoo.data.scenes_ground import Site, paint_ground, paint_ridge, paint_sky
from segzoo.data.scenes_objects import (
    car,
    crossing_car,
    lamp_post,
    person,
    traffic_sign,
    tree,
    unlabelled_thing,
)
from segzoo.data.scenes_paint import Camera, Canvas, Light

ZENITHS: tuple[Colour, ...] = ((88, 136, 196), (112, 152, 198), (136, 164, 192), (74, 116, 182))
HORIZONS: tuple[Colour, ...] = ((190, 206, 220), (206, 214, 218), (216, 206, 190), (178, 196, 214))
DUSKS: tuple[Colour, ...] = ((226, 164, 118), (214, 150, 140), (232, 186, 136))
GREYS: tuple[Colour, ...] = ((186, 190, 194), (168, 174, 180), (204, 206, 208))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene: its depth in metres, how to draw it, and its shadow (X, Z, radii) if it has one."""

    depth: float
    draw: Callable[[Canvas, Dice], None]
    shadow: tuple[float, float, float, float] | None = None


def draw_camera(dice: Dice, height: int, width: int) -> Camera:
    """A camera at the height of a person's eyes or a little above."""
    return Camera(
        height=height,
        width=width,
        focal=height * dice.between(0.8, 1.35),
        horizon=height * dice.between(0.36, 0.6),
        centre=width * dice.between(0.36, 0.64),
        eye=dice.between(1.4, 3.2),
    )


def draw_weather(dice: Dice) -> tuple[Light, Colour, float]:
    """Light, colour of the zenith and cloudiness (0..1) of clear, overcast, hazy, dusky or dark weather."""
    kind = dice.pick(("clear", "clear", "clear", "overcast", "hazy", "dusk", "night"))
    side = dice.between(0.4, 1.0) * dice.pick((-1.0, 1.0))
    zenith, haze = dice.colour(ZENITHS), dice.colour(HORIZONS)
    cloudiness = dice.between(0.32, 0.62) if dice.chance(0.75) else 0.0
    level, contrast, visibility = dice.between(0.85, 1.1), dice.between(0.15, 0.3), dice.between(160.0, 500.0)
    if kind == "overcast":
        zenith, haze, contrast, cloudiness = dice.colour(GREYS), dice.colour(GREYS), 0.05, 0.0
    elif kind == "hazy":
        visibility, contrast = dice.between(45.0, 110.0), 0.1
    elif kind == "dusk":
        haze, level = dice.colour(DUSKS), dice.between(0.6, 0.85)
    elif kind == "night":
        zenith, haze, level = (22.0, 28.0, 52.0), (62.0, 62.0, 84.0), dice.between(0.32, 0.5)
    # `left` is the face turned to the left: it is bright when the sun is at the left, side < 0.
    light = Light(
        front=level,
        left=level * (1.0 - contrast * side),
        right=level * (1.0 + contrast * side),
        haze=haze,
        visibility=visibility,
        shadow=1.0 - contrast * 1.5,
        sun_side=-1.0 if side < 0 else 1.0,
        night=kind == "night",
    )
    return light, zenith, cloudiness


def draw_site(dice: Dice) -> Site:
    """A plan of the ground."""
    kind = dice.pick(("street", "street", "street", "suburb", "suburb", "country", "country", "shore", "shore"))
    rural = kind == "country"
    no_road = dice.chance(0.15 if kind in ("country", "shore") else 0.0)
    half = 0.0 if no_road else dice.between(2.2, 3.2) if rural else dice.between(3.0, 5.5)
    walks = not rural and (kind == "street" or dice.chance(0.75))
    return Site(
        kind=kind,
        road_half=half,
        sidewalk=dice.between(1.6, 3.6) if walks else 0.0,
        offset=dice.between(-0.75, 0.75) * max(half, 1.5),
        slope=dice.between(-0.12, 0.12),
        curve=dice.between(-0.004, 0.004) if dice.chance(0.6) else 0.0,
        water_from=half + dice.between(4.0, 9.0) if kind == "shore" else None,
        water_side=dice.pick((-1.0, 1.0)),
        far_water=(dice.between(22.0, 35.0), dice.between(50.0, 160.0)) if rural and dice.chance(0.6) else None,
        crossing=_crossing(dice) if not rural and not no_road and dice.chance(0.3) else None,
    )


def _crossing(dice: Dice) -> tuple[float, float]:
    near = dice.between(13.0, 26.0)
    return near, near + dice.between(5.5, 8.0)


def paint_backdrop(canvas: Canvas, dice: Dice, zenith: Colour, cloudiness: float, site: Site) -> None:
    """Draws sky, ridges and ground."""
    height = canvas.camera.height
    paint_sky(canvas, dice, zenith, cloudiness)
    urban = site.kind == "street"
    for layer in range(dice.integer(0, 1) if urban else dice.integer(0, 3)):
        paint_ridge(canvas, dice, MOUNTAIN, height * dice.between(0.08, 0.3 - 0.06 * layer), 0.6 - 0.2 * layer)
    if dice.chance(0.5 if urban else 0.15):
        paint_ridge(canvas, dice, BUILDING, height * dice.between(0.05, 0.14), dice.between(0.3, 0.5))
    if dice.chance(0.55):
        paint_ridge(canvas, dice, TREE, height * dice.between(0.03, 0.09), dice.between(0.15, 0.4))
    paint_ground(canvas, dice, site)


def draw_things(dice: Dice, site: Site) -> list[Thing]:
    """All objects of the scene, the farthest first."""
    things: list[Thing] = []
    for side in (-1.0, 1.0):
        watery = site.water_from is not None and side == site.water_side
        if site.kind in ("street", "suburb", "shore") and not watery:
            things += _buildings(dice, site, side)
        things += _row_of_poles(dice, site, side)
        things += _trees(dice, site, side, watery)
        if dice.chance({"street": 0.15, "suburb": 0.7, "country": 0.5, "shore": 0.5}[site.kind]):
            things += _fences(dice, site, side)
        things += _parked_cars(dice, site, side)
    things += _traffic(dice, site) + _people(dice, site) + _signs(dice, site) + _oddments(dice, site)
    return sorted(things, key=lambda thing: -thing.depth)


def _buildings(dice: Dice, site: Site, side: float) -> list[Thing]:
    things, depth = [], dice.between(1.5, 9.0)
    street = site.kind == "street"
    back = site.road_half + site.sidewalk + (dice.between(0.3, 2.5) if street else dice.between(4.0, 8.0))
    while depth < 75.0:
        length = dice.between(8.0, 18.0) if street else dice.between(7.0, 11.0)
        blocked = site.crossing is not None and depth < site.crossing[1] + 2 and depth + length > site.crossing[0] - 2
        inner = site.middle(depth) + side * (back + dice.between(0.0, 0.8))
        # A block that the camera would stand beside or inside of is left out.
        if not blocked and inner * side > 1.5 and dice.chance(0.88 if street else 0.7):
            height = dice.between(6.0, 19.0) if street else dice.between(3.0, 6.2)
            outer = inner + side * dice.between(7.0, 12.0)
            draw = partial(
                building, inner=inner, outer=outer, near=depth, far=depth + length, height=height, house=not street
            )
            shadow = (inner, depth + length / 2, 3.0, length / 2 + 1)
            things.append(Thing(depth=depth + length / 2, draw=draw, shadow=shadow))
        depth += length + (dice.between(0.0, 1.0) if street and dice.chance(0.7) else dice.between(2.0, 7.0))
    return things


def _row_of_poles(dice: Dice, site: Site, side: float) -> list[Thing]:
    if not dice.chance(0.7):
        return []
    gap, depth, things = dice.between(10.0, 18.0), dice.between(5.0, 14.0), []
    beside = site.road_half + dice.between(0.4, 0.9)
    while depth < 30.0:
        across = site.middle(depth) + side * beside
        things.append(Thing(depth=depth, draw=partial(lamp_post, across=across, depth=depth)))
        depth += gap
    return things


def _trees(dice: Dice, site: Site, side: float, watery: bool) -> list[Thing]:
    things = []
    street = site.kind == "street"
    limit = site.water_from - 1.0 if watery and site.water_from is not None else 30.0
    first = site.road_half + (site.sidewalk * 0.6 if street else site.sidewalk + 1.0)
    for _ in range(dice.integer(0, 4) if street else dice.integer(2, 7)):
        depth = dice.between(5.0, 60.0)
        last = first + 0.6 if street else min(limit, first + 4.0 + depth * 0.4)
        across = site.middle(depth) + side * dice.between(first, max(last, first + 0.1))
        height = dice.between(0.9, 1.8) if dice.chance(0.25) else dice.between(3.5, 9.0)
        shadow = (across, depth, height * 0.35, height * 0.3)
        things.append(Thing(depth=depth, draw=partial(tree, across=across, depth=depth, height=height), shadow=shadow))
    return things


def _fences(dice: Dice, site: Site, side: float) -> list[Thing]:
    near = dice.between(3.0, 14.0)
    far = near + dice.between(8.0, 30.0)
    across = site.middle((near + far) / 2) + side * (site.road_half + site.sidewalk + dice.between(0.3, 1.6))
    draw = partial(fence, across=across, near=near, far=far, along_road=True)
    things = [Thing(depth=(near + far) / 2, draw=draw)]
    if dice.chance(0.5):
        ends = sorted((across, across + side * dice.between(6.0, 15.0)))
        cross = partial(fence, across=far, near=ends[0], far=ends[1], along_road=False)
        things.append(Thing(depth=far, draw=cross))
    return things


def _car_at(site: Site, across: float, depth: float, oncoming: bool) -> Thing:
    middle = site.middle(depth) + across
    draw = partial(car, across=middle, depth=depth, oncoming=oncoming)
    return Thing(depth=depth, draw=draw, shadow=(middle, depth + 2.0, 1.35, 2.9))


def _parked_cars(dice: Dice, site: Site, side: float) -> list[Thing]:
    if site.road_half < 3.0 or not dice.chance(0.6):
        return []
    things, depth = [], dice.between(4.0, 12.0)
    while depth < 40.0:
        if dice.chance(0.6) and not _in_crossing(site, depth):
            things.append(_car_at(site, side * (site.road_half - 1.05), depth, side < 0))
        depth += dice.between(5.6, 9.0)
    return things


def _traffic(dice: Dice, site: Site) -> list[Thing]:
    things = []
    if site.road_half > 0.0:
        for _ in range(dice.integer(0, 2)):
            side = dice.pick((-1.0, 1.0))
            things.append(_car_at(site, side * site.road_half * 0.42, dice.between(5.0, 40.0), side < 0))
    if site.crossing is not None and dice.chance(0.6):
        depth = site.crossing[0] + dice.between(1.0, 4.0)
        across = dice.between(-9.0, 6.0)
        draw = partial(crossing_car, across=across, depth=depth)
        things.append(Thing(depth=depth, draw=draw, shadow=(across + 2.2, depth + 0.8, 2.7, 1.2)))
    return things


def _people(dice: Dice, site: Site) -> list[Thing]:
    things = []
    for _ in range(dice.integer(1, 7)):
        side, depth = dice.pick((-1.0, 1.0)), dice.between(3.6, 14.0)
        beside = site.road_half + dice.between(0.3, max(site.sidewalk, 1.5))
        if dice.chance(0.12):
            beside = dice.between(0.0, site.road_half)
        across = site.middle(depth) + side * beside
        draw = partial(person, across=across, depth=depth)
        things.append(Thing(depth=depth, draw=draw, shadow=(across, depth, 0.5, 0.4)))
    return things


def _signs(dice: Dice, site: Site) -> list[Thing]:
    things = []
    for _ in range(dice.integer(1, 4)):
        side, depth = dice.pick((-1.0, 1.0)), dice.between(4.0, 16.0)
        across = site.middle(depth) + side * (site.road_half + dice.between(0.3, 1.4))
        things.append(Thing(depth=depth, draw=partial(traffic_sign, across=across, depth=depth)))
    return things


def _oddments(dice: Dice, site: Site) -> list[Thing]:
    things = []
    for _ in range(dice.integer(0, 2)):
        side, depth = dice.pick((-1.0, 1.0)), dice.between(4.0, 14.0)
        across = site.middle(depth) + side * (site.road_half + dice.between(0.5, 3.0))
        draw = partial(unlabelled_thing, across=across, depth=depth)
        things.append(Thing(depth=depth, draw=draw, shadow=(across, depth, 0.9, 0.6)))
    return things


def _in_crossing(site: Site, depth: float) -> bool:
    return site.crossing is not None and site.crossing[0] - 5.0 < depth < site.crossing[1] + 1.0
