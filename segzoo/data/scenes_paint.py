"""The drawing tools of `scenes`: a pinhole camera, patches of what it sees and a depth-tested canvas.

Only integers and + - * / sqrt floor of IEEE floats are used, because these give the same bits on
every machine; sin, exp, pow, sums of arrays and library rasterisers do not.
Letters: X to the right, Y up, Z forward, in metres, the camera at X = Z = 0; rows and columns in pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from segzoo.data.scenes_dice import Array, Colour, Number

IGNORED = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
    """A level pinhole camera.

    Attributes:
        height, width: picture size in pixels.
        focal: focal length in pixels.
        horizon: row of the horizon in pixels.
        centre: column of the viewing direction in pixels.
        eye: height of the camera above the ground in metres.
    """

    height: int
    width: int
    focal: float
    horizon: float
    centre: float
    eye: float

    def row(self, up: float, depth: float) -> float:
        """Row of a point `up` metres above the ground."""
        return self.horizon + self.focal * (self.eye - up) / depth

    def column(self, across: float, depth: float) -> float:
        """Column of a point `across` metres to the right."""
        return self.centre + self.focal * across / depth


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch:
    """The pixels that a piece of a plane may cover, with the plane's own coordinates there.

    Attributes:
        rows, columns: the pixels.
        along: coordinate along the plane, in metres (X of a frontal, Z of a lateral plane).
        up: height above the ground in metres.
        scale_along, scale_up: pixels per metre in both directions.
        depth: Z in metres.
    """

    rows: slice
    columns: slice
    along: Array
    up: Array
    scale_along: Number
    scale_up: Number
    depth: Number


def _span(low: float, high: float, limit: int) -> slice | None:
    first, last = max(0, math.floor(low) - 1), min(limit, math.ceil(high) + 1)
    return slice(first, last) if first < last else None


def _centres(span: slice) -> Array:
    return np.arange(span.start, span.stop) + 0.5


def frontal(camera: Camera, depth: float, left: float, right: float, bottom: float, top: float) -> Patch | None:
    """The patch of a plane that faces the camera; None when out of view."""
    rows = _span(camera.row(top, depth), camera.row(bottom, depth), camera.height)
    columns = _span(camera.column(left, depth), camera.column(right, depth), camera.width)
    if rows is None or columns is None:
        return None
    scale = camera.focal / depth
    return Patch(
        rows=rows,
        columns=columns,
        along=((_centres(columns) - camera.centre) / scale)[None, :],
        up=(camera.eye - (_centres(rows) - camera.horizon) / scale)[:, None],
        scale_along=scale,
        scale_up=scale,
        depth=depth,
    )


def lateral(camera: Camera, across: float, near: float, far: float, bottom: float, top: float) -> Patch | None:
    """The patch of a plane along the viewing direction at X = across; None when out of view or seen edge-on."""
    ends = (camera.column(across, near), camera.column(across, far))
    columns = _span(min(ends), max(ends), camera.width)
    if columns is None or abs(across) < 0.05:
        return None
    offset = _centres(columns) - camera.centre
    offset = np.maximum(offset, 0.25) if across > 0 else np.minimum(offset, -0.25)
    depth = (camera.focal * across / offset)[None, :]
    highs = (camera.row(top, near), camera.row(top, far))
    lows = (camera.row(bottom, near), camera.row(bottom, far))
    rows = _span(min(highs), max(lows), camera.height)
    if rows is None:
        return None
    return Patch(
        rows=rows,
        columns=columns,
        along=depth,
        up=camera.eye - (_centres(rows)[:, None] - camera.horizon) * depth / camera.focal,
        scale_along=camera.focal * abs(across) / (depth * depth),
        scale_up=camera.focal / depth,
        depth=depth,
    )


def screen(camera: Camera, corners: Sequence[tuple[float, float, float]], depth: float) -> Patch | None:
    """The patch around projected points (X, Y, Z), with columns and negated rows as its coordinates."""
    points = project(camera, corners)
    rows = _span(-max(up for _, up in points), -min(up for _, up in points), camera.height)
    columns = _span(min(along for along, _ in points), max(along for along, _ in points), camera.width)
    if rows is None or columns is None:
        return None
    along, up = _centres(columns)[None, :], -_centres(rows)[:, None]
    return Patch(rows=rows, columns=columns, along=along, up=up, scale_along=1.0, scale_up=1.0, depth=depth)


def project(camera: Camera, corners: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """Points (X, Y, Z) in metres as (column, negated row): the coordinates of a `screen` patch."""
    return [(camera.column(x, z), -camera.row(y, z)) for x, y, z in corners]


def band(position: Array, low: Number, high: Number, scale: Number) -> Array:
    """Share of each pixel (1 / scale wide) that lies between low and high: an exact box filter."""
    half = 0.5 / scale
    overlap = np.minimum(high, position + half) - np.maximum(low, position - half)
    return np.clip(overlap * scale, 0.0, 1.0)


def rectangle(patch: Patch, left: Number, right: Number, bottom: Number, top: Number) -> Array:
    """Coverage [h, w] of an upright rectangle in the patch's coordinates."""
    return band(patch.along, left, right, patch.scale_along) * band(patch.up, bottom, top, patch.scale_up)


def limb(patch: Patch, start: tuple[float, float], end: tuple[float, float], width: float) -> Array:
    """Coverage [h, w] of a steep bar between two points (along, up), `width` metres wide throughout."""
    half = width / 2
    (a0, u0), (a1, u1) = start, end
    return polygon(patch, [(a0 - half, u0), (a0 + half, u0), (a1 + half, u1), (a1 - half, u1)])


def ellipse(patch: Patch, along: float, up: float, radius_along: float, radius_up: float) -> Array:
    """Coverage [h, w] of an ellipse, with a soft edge about one pixel wide."""
    u, v = (patch.along - along) / radius_along, (patch.up - up) / radius_up
    inside = 1.0 - np.sqrt(u * u + v * v)
    reach = np.minimum(radius_along * patch.scale_along, radius_up * patch.scale_up)
    return np.clip(inside * reach + 0.5, 0.0, 1.0)


def polygon(patch: Patch, corners: Sequence[tuple[float, float]]) -> Array:
    """Coverage [h, w] of a convex polygon with corners (along, up) in either turning sense."""
    (a0, u0), (a1, u1), (a2, u2) = corners[:3]
    if (a1 - a0) * (u2 - u0) < (a2 - a0) * (u1 - u0):
        corners = corners[::-1]
    inside: Array | None = None
    for (a0, u0), (a1, u1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        step, rise = a1 - a0, u1 - u0
        slope_along, slope_up = -rise / patch.scale_along, step / patch.scale_up
        length = np.sqrt(slope_along * slope_along + slope_up * slope_up)
        distance = (step * (patch.up - u0) - rise * (patch.along - a0)) / np.maximum(length, 1e-9)
        inside = distance if inside is None else np.minimum(inside, distance)
    assert inside is not None
    return np.clip(inside + 0.5, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Light:
    """How bright surfaces are: factors for faces to the camera, to the left, to the right; shadow; haze.

    Attributes:
        haze: colour that distance fades to.
        visibility: distance in metres at which half of the colour is haze.
        shadow: what a shadow multiplies the ground with.
        sun_side: -1 when the sun is at the left, 1 at the right; shadows fall to the other side.
        night: windows and lamps shine.
    """

    front: float
    left: float
    right: float
    haze: Colour
    visibility: float
    shadow: float
    sun_side: float
    night: bool


class Canvas:
    """The picture being drawn: colour, class and depth of every pixel."""

    def __init__(self, camera: Camera, light: Light) -> None:
        size = (camera.height, camera.width)
        self.camera = camera
        self.light = light
        self.image = np.zeros((*size, 3), np.float32)
        self.label = np.zeros(size, np.uint8)
        self.depth = np.full(size, 1e6, np.float32)

    def paint(
        self, patch: Patch, coverage: Array, colour: Colour | Array, label: int | None, claim: Array | None = None
    ) -> None:
        """Lays a colour over the pixels of a patch where nothing nearer is.

        Args:
            patch: where.
            coverage: [h, w] in 0..1; at least a half makes a pixel part of the object.
            colour: one RGB in 0..255 or an array [h, w, 3]; haze is added here.
            label: class of the object; None leaves classes and depth as they are.
            claim: [h, w] decides about the class in place of `coverage`, for things with holes.
        """
        box = (patch.rows, patch.columns)
        behind = np.asarray(patch.depth, np.float32) <= self.depth[box] + np.float32(0.05)
        alpha = np.where(behind, coverage, 0.0).astype(np.float32)[:, :, None]
        haze = np.asarray(patch.depth / (patch.depth + self.light.visibility), np.float32)
        haze = haze[..., None] if haze.ndim else haze
        surface = np.asarray(colour, np.float32)
        surface = surface + (np.asarray(self.light.haze, np.float32) - surface) * haze
        below = self.image[box]
        self.image[box] = below + (surface - below) * alpha
        if label is not None:
            covered = behind & ((coverage if claim is None else claim) >= 0.5)
            self.label[box] = np.where(covered, np.uint8(label), self.label[box])
            nearer = np.minimum(np.asarray(patch.depth, np.float32), self.depth[box])
            self.depth[box] = np.where(covered, nearer, self.depth[box])

    def shade_ground(self, across: float, depth: float, radius_across: float, radius_depth: float) -> None:
        """Darkens an ellipse on the ground: a shadow; call it before anything stands on the ground."""
        near, far = max(depth - radius_depth, 0.8), depth + radius_depth
        camera = self.camera
        rows = _span(camera.row(0.0, far), camera.row(0.0, near), camera.height)
        ends = [camera.column(across + side * radius_across, z) for side in (-1, 1) for z in (near, far)]
        columns = _span(min(ends), max(ends), camera.width)
        if rows is None or columns is None:
            return
        drop = np.maximum(_centres(rows) - camera.horizon, 0.5)
        ground = (camera.focal * camera.eye / drop)[:, None]
        u = ((_centres(columns)[None, :] - camera.centre) * ground / camera.focal - across) / radius_across
        v = (ground - depth) / radius_depth
        strength = np.clip((1.0 - np.sqrt(u * u + v * v)) * 4.0, 0.0, 1.0) * (1.0 - self.light.shadow)
        self.image[rows, columns] *= (1.0 - strength).astype(np.float32)[:, :, None]
