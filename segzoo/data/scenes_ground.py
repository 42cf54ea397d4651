"""What lies behind and below all objects of a drawn scene: sky, clouds, mountains, the ground and the road on it."""

from __future__ import annotations

import dataclasses

import numpy as np

from segzoo.data.scenes_classes import BUILDING, CLOUD, GRASS, MARKING, MOUNTAIN, ROAD, SIDEWALK, SKY, TREE, WATER
from segzoo.data.scenes_dice import Array, Colour, Dice, noise
from segzoo.data.scenes_paint import Canvas, band

SKY_DEPTH, RIDGE_DEPTH = 1e6, 5e5
GRASSES = ((98, 128, 62), (116, 142, 70), (140, 136, 80), (86, 112, 66), (158, 144, 92), (120, 120, 84))
ASPHALTS = ((92, 92, 96), (112, 110, 108), (74, 75, 80), (132, 126, 118), (128, 108, 86))
PAVINGS = ((168, 160, 150), (146, 142, 140), (182, 164, 144), (128, 126, 128), (160, 132, 118))
WATERS = ((70, 104, 122), (88, 120, 118), (62, 84, 104), (104, 122, 110))
ROCKS = ((104, 112, 96), (96, 106, 122), (128, 114, 98), (84, 104, 74), (120, 122, 128))
LEAVES = ((72, 98, 52), (88, 108, 58), (58, 84, 56))
FACADES = ((140, 132, 128), (122, 124, 132), (156, 142, 126))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """The plan of a scene's ground, in metres; the road's middle is offset + slope * Z + curve * Z * Z.

    Attributes:
        kind: "street", "suburb", "country" or "shore".
        road_half: half the road's width; 0 for no road.
        sidewalk: width of the walks beside the road; 0 for none.
        water_from: distance of the shore from the road's middle, None without water beside the road.
        water_side: -1 for water at the left, 1 at the right.
        far_water: depth where a lake across the view begins and ends, or None.
        crossing: depth where a crossing road begins and ends, or None.
    """

    kind: str
    road_half: float
    sidewalk: float
    offset: float
    slope: float
    curve: float
    water_from: float | None
    water_side: float
    far_water: tuple[float, float] | None
    crossing: tuple[float, float] | None

    def middle(self, depth: float) -> float:
        """X of the road's middle at a depth in metres."""
        return self.offset + self.slope * depth + self.curve * depth * depth


def tinted(colour: Colour, brightness: Array) -> Array:
    """The colour [..., 3] times a brightness pattern [...]."""
    return np.asarray(colour, np.float32) * brightness.astype(np.float32)[..., None]


def blend(below: Array, above: Array | Colour, alpha: Array) -> Array:
    """`above` over `below` with opacity `alpha` [...]."""
    return below + (np.asarray(above, np.float32) - below) * alpha.astype(np.float32)[..., None]


def paint_sky(canvas: Canvas, dice: Dice, zenith: Colour, cloudiness: float) -> None:
    """Fills the whole canvas with a graded sky, a glow around the sun and clouds in perspective."""
    camera, light = canvas.camera, canvas.light
    rows = (np.arange(camera.height) + 0.5)[:, None]
    columns = (np.arange(camera.width) + 0.5)[None, :]
    fall = np.clip(rows / max(camera.horizon, 1.0), 0.0, 1.0)
    sky = blend(np.broadcast_to(np.asarray(zenith, np.float32), (camera.height, 1, 3)), light.haze, fall * fall)
    radius = camera.height * dice.between(0.15, 0.5)
    sun_row = camera.horizon - camera.height * dice.between(0.1, 0.6)
    sun_column = camera.centre + light.sun_side * camera.width * dice.between(0.3, 0.8)
    away = (rows - sun_row) * (rows - sun_row) + (columns - sun_column) * (columns - sun_column)
    glow = 1.0 / (1.0 + away / (radius * radius))
    strength = 10.0 if light.night else 45.0
    canvas.image[:] = sky + (glow * glow * strength).astype(np.float32)[:, :, None]
    canvas.label[:] = SKY
    above = max(0, min(camera.height, int(camera.horizon)))
    if cloudiness > 0.0 and above > 2:
        _paint_clouds(canvas, dice, cloudiness, above)


def _paint_clouds(canvas: Canvas, dice: Dice, cloudiness: float, above: int) -> None:
    camera, light = canvas.camera, canvas.light
    rise = camera.horizon - (np.arange(above) + 0.5) + camera.height * 0.16
    away = (camera.height / rise)[:, None]
    across = (np.arange(camera.width) + 0.5 - camera.centre)[None, :] / camera.height
    size = dice.between(14.0, 26.0)
    start_down, start_across = dice.between(0, 256), dice.between(0, 256)
    density = noise(start_down + away * size * 1.6, start_across + across * away * size, smooth=True)
    toward_sun = start_across + across * away * size + light.sun_side * 4.0
    lit = noise(start_down + away * size * 1.6 + 4.0, toward_sun, smooth=True)
    alpha = np.clip((density - (1.0 - cloudiness)) * 10.0, 0.0, 1.0)
    bright = np.clip(0.88 + (density - lit) * 1.2, 0.6, 1.1)
    peak = 70.0 if light.night else 238.0
    colour = tinted((peak, peak * 0.99, peak * 0.98), bright)
    colour = blend(colour, light.haze, np.broadcast_to(np.clip(away * 0.06, 0.0, 0.5), alpha.shape))
    canvas.image[:above] = blend(canvas.image[:above], colour, alpha * 0.95)
    canvas.label[:above] = np.where(alpha >= 0.5, np.uint8(CLOUD), canvas.label[:above])


def paint_ridge(canvas: Canvas, dice: Dice, label: int, height: float, distance: float) -> None:
    """Draws a far silhouette on the horizon: mountains, a line of trees, or the roofs of a town.

    Args:
        canvas: a canvas with its sky.
        dice: the scene's draws.
        label: MOUNTAIN, TREE or BUILDING; decides outline and colours.
        height: greatest height in pixels above the horizon.
        distance: share of haze in the colour, 0..1.
    """
    camera, light = canvas.camera, canvas.light
    columns = np.arange(camera.width) + 0.5
    texels = {MOUNTAIN: 0.55, TREE: 2.5, BUILDING: 1.0}[label] * 192.0 / camera.height
    line, start = dice.between(0, 256), dice.between(0, 256)
    position = start + columns * texels
    if label == BUILDING:
        position = np.floor(position / 9.0) * 9.0
    profile = noise(np.full(camera.width, line), position, smooth=True)
    foot = camera.horizon + 2.0
    top = foot - height * (0.25 + 0.75 * profile)
    first = max(0, int(foot - height) - 1)
    rows = (np.arange(first, min(camera.height, int(foot) + 1)) + 0.5)[:, None]
    if rows.size == 0:
        return
    box = slice(first, first + rows.shape[0])
    alpha = np.clip(rows - top[None, :] + 0.5, 0.0, 1.0)
    colour = _ridge_colour(canvas, dice, label, rows, (rows - top[None, :]) / height, texels)
    colour = blend(colour, light.haze, np.full(alpha.shape, distance))
    canvas.image[box] = blend(canvas.image[box], colour, alpha)
    canvas.label[box] = np.where(alpha >= 0.5, np.uint8(label), canvas.label[box])
    canvas.depth[box] = np.where(alpha >= 0.5, np.float32(RIDGE_DEPTH), canvas.depth[box])


def _ridge_colour(canvas: Canvas, dice: Dice, label: int, rows: Array, below_top: Array, texels: float) -> Array:
    """Colours [h, w, 3] of a ridge: slopes lit from the sun's side, snow on some, windows on none."""
    light = canvas.light
    columns = (np.arange(canvas.camera.width) + 0.5)[None, :]
    base = dice.colour({MOUNTAIN: ROCKS, TREE: LEAVES, BUILDING: FACADES}[label])
    zoom = texels * (1.6 if label == MOUNTAIN else 3.0)
    start = dice.between(0, 256)
    here = noise(start + rows * zoom, start + columns * zoom, smooth=True)
    beside = noise(start + rows * zoom, start + (columns + light.sun_side * 3.0) * zoom, smooth=True)
    contrast = 0.5 if label == BUILDING else 1.6
    bright = np.clip(0.9 + (here - beside) * contrast + (here - 0.5) * 0.3, 0.4, 1.4)
    colour = tinted(base, bright * light.front)
    if label == MOUNTAIN and dice.chance(0.3):
        snow = np.clip((0.35 + (here - 0.5) * 0.8 - below_top) * 8.0, 0.0, 1.0)
        colour = blend(colour, tinted((232, 236, 244), bright * light.front), snow)
    return colour


class Ground:
    """The ground plane's pixels with their world coordinates, being painted layer over layer."""

    def __init__(self, canvas: Canvas, dice: Dice, site: Site) -> None:
        camera = canvas.camera
        self.canvas, self.dice, self.site = canvas, dice, site
        self.first = max(0, min(camera.height - 1, int(camera.horizon + 1.0)))
        drop = np.arange(self.first, camera.height) + 0.5 - camera.horizon
        self.depth = (camera.focal * camera.eye / np.maximum(drop, 0.5))[:, None]
        self.scale = camera.focal / self.depth
        self.across = (np.arange(camera.width) + 0.5 - camera.centre)[None, :] / self.scale
        middle = site.offset + (site.slope + site.curve * self.depth) * self.depth
        self.beside = self.across - middle
        # The texture of far ground is finer than a pixel: it fades instead of flickering.
        self.fade = 18.0 / (18.0 + self.depth)
        self.image = np.zeros((*self.across.shape, 3), np.float32)
        self.label = np.full(self.across.shape, GRASS, np.uint8)

    def texture(self, texels: float, stretch: float = 1.0, smooth: bool = False) -> Array:
        """Noise around 0 [h, w], `texels` a metre across and `stretch` times as many in depth."""
        start = self.dice.between(0, 256)
        value = noise(start + self.depth * texels * stretch, start + self.across * texels, smooth)
        return (value - 0.5) * self.fade

    def lay(self, colour: Array | Colour, alpha: Array, label: int) -> None:
        """Lays a surface over the pixels where alpha [h, w] is at least a half."""
        self.image = blend(self.image, colour, alpha)
        self.label = np.where(alpha >= 0.5, np.uint8(label), self.label)

    def finish(self) -> None:
        """Adds haze and puts the ground on the canvas."""
        light = self.canvas.light
        haze = self.depth / (self.depth + light.visibility * 1.5)
        box = slice(self.first, None)
        self.canvas.image[box] = blend(self.image, light.haze, np.broadcast_to(haze, self.label.shape))
        self.canvas.label[box] = self.label
        self.canvas.depth[box] = self.depth


def paint_ground(canvas: Canvas, dice: Dice, site: Site) -> None:
    """Draws grass, water, walks, roads and their markings, from back to front of what covers what."""
    ground = Ground(canvas, dice, site)
    bright = canvas.light.front
    patches, grain = ground.texture(4.0, smooth=True), ground.texture(22.0)
    meadow = tinted(dice.colour(GRASSES), bright * (1.0 + patches * 0.5 + grain * 0.5))
    dry = tinted(dice.colour(GRASSES), bright * (1.0 + grain * 0.5))
    ground.image = blend(meadow, dry, np.clip(0.5 + patches * 2.5, 0.0, 1.0))
    _lay_water(ground, patches)
    wobble = patches * (0.9 if site.kind == "country" else 0.0)
    if site.sidewalk > 0.0:
        _lay_sidewalk(ground)
    if site.road_half > 0.0:
        _lay_road(ground, grain, wobble)
    ground.finish()


def _lay_water(ground: Ground, patches: Array) -> None:
    site, light, dice = ground.site, ground.canvas.light, ground.dice
    alpha = np.zeros(ground.across.shape)
    if site.water_from is not None:
        beyond = ground.beside * site.water_side - site.water_from + patches * 2.0
        alpha = np.clip(beyond * ground.scale + 0.5, 0.0, 1.0)
    if site.far_water is not None:
        near, far = site.far_water
        per_metre = ground.scale * ground.canvas.camera.eye / ground.depth
        alpha = np.maximum(alpha, band(ground.depth + patches * near * 0.5, near, far, per_metre))
    if not alpha.any():
        return
    ripples = ground.texture(1.6, 4.0, smooth=True) + ground.texture(6.0, 3.0) * 0.5
    deep = tinted(dice.colour(WATERS), light.front * (1.0 + ripples * 0.7))
    mirror = np.clip(ground.depth / (ground.depth + 14.0) + ripples * 0.8, 0.0, 0.92)
    ground.lay(blend(deep, light.haze, mirror), alpha, WATER)


def _lay_sidewalk(ground: Ground) -> None:
    site, dice = ground.site, ground.dice
    reach = site.road_half + site.sidewalk
    tile = dice.pick((0.5, 0.8, 1.2))
    edge = np.abs(ground.beside)
    steps_across, steps_deep = ground.across / tile, ground.depth / tile
    seam = np.minimum(
        np.abs(steps_across - np.floor(steps_across) - 0.5), np.abs(steps_deep - np.floor(steps_deep) - 0.5)
    )
    seam = np.clip((0.06 - seam) * 12.0, 0.0, 1.0) * (6.0 / (6.0 + ground.depth))
    shade = 1.0 + ground.texture(12.0) * 0.35 + ground.texture(3.0, smooth=True) * 0.25 - seam * 0.5
    paving = dice.colour(PAVINGS)
    bright = ground.canvas.light.front
    ground.lay(tinted(paving, bright * shade), band(edge, 0.0, reach, ground.scale), SIDEWALK)
    kerb = band(edge, site.road_half, site.road_half + 0.2, ground.scale)
    ground.image = blend(ground.image, tinted(paving, bright * 1.15 * np.ones_like(edge)), kerb)


def _lay_road(ground: Ground, grain: Array, wobble: Array) -> None:
    site, dice, bright = ground.site, ground.dice, ground.canvas.light.front
    edge = np.abs(ground.beside) + wobble
    tracks = np.abs(np.abs(ground.beside) - site.road_half * 0.5) - 0.7
    tracks = np.clip(1.0 - np.abs(tracks) * 2.5, 0.0, 1.0)
    stains = ground.texture(5.0, smooth=True)
    asphalt = tinted(dice.colour(ASPHALTS), bright * (1.0 + grain * 0.4 + stains * 0.25 - tracks * 0.08))
    alpha = band(edge, -9.0, site.road_half, ground.scale)
    per_metre = ground.scale * ground.canvas.camera.eye / ground.depth
    if site.crossing is not None:
        alpha = np.maximum(alpha, band(ground.depth, *site.crossing, per_metre) * np.ones_like(edge))
    ground.lay(asphalt, alpha, ROAD)
    if dice.chance(0.8 if site.kind != "country" else 0.5):
        _lay_markings(ground, per_metre)


def _lay_markings(ground: Ground, per_metre: Array) -> None:
    site, dice = ground.site, ground.dice
    paint = dice.colour(((222, 222, 216), (206, 206, 204), (214, 178, 70)))
    width, period = dice.between(0.18, 0.34), dice.between(4.0, 9.0)
    phase = ground.depth / period + dice.between(0.0, 1.0)
    dashes = np.clip((phase - np.floor(phase) < dice.between(0.45, 0.6)) + 0.0, 0.0, 1.0)
    solid = dice.chance(0.3)
    alpha = band(ground.beside, -width / 2, width / 2, ground.scale) * (np.ones_like(dashes) if solid else dashes)
    if dice.chance(0.6):
        inset = site.road_half - 0.45
        alpha = np.maximum(alpha, band(np.abs(ground.beside), inset - width / 2, inset + width / 2, ground.scale))
    if site.crossing is not None:
        near, far = site.crossing
        alpha = alpha * (1.0 - band(ground.depth, near - 4.5, far, per_metre))
        stripes = ground.beside / 1.1 - np.floor(ground.beside / 1.1)
        zebra = np.clip((0.25 - np.abs(stripes - 0.5)) * 1.1 * ground.scale + 0.5, 0.0, 1.0)
        zebra = zebra * band(np.abs(ground.beside), 0.0, site.road_half - 0.3, ground.scale)
        alpha = np.maximum(alpha, zebra * band(ground.depth, near - 4.0, near - 1.0, per_metre))
    # Lines thinner than a pixel are seen but stay part of the road.
    alpha = np.where(width * ground.scale > 1.3, alpha, np.minimum(alpha, 0.45))
    worn = np.clip(0.95 + ground.texture(9.0) * 0.8, 0.3, 1.0)
    colour = tinted(paint, ground.canvas.light.front * worn)
    ground.lay(colour, alpha, MARKING)
