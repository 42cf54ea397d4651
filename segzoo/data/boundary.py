"""Boundary ground truth from labels: how far a pixel is from another class, and which way leads away from it.

The rules are those by which openseg's script for ADE20K makes the `dt_offset` files that UN-EPT was trained with
(distances in pixels of the label's own resolution; a smoothed gradient of the distance, towards the inside).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segzoo.data.mat import decode_mat
from segzoo.errors import DatasetError

FARTHEST = 250
SMALLEST_CLASS = 100
"""Pixels; a class with fewer in an image has no boundary of its own."""
_REACH = 2


class Boundary(NamedTuple):
    """Both [H, W]. Pixels that are ignored or of a class too small have distance 0 and angle 0.

    Attributes:
        distance: uint8, whole pixels to the nearest one of another class, at most 250; 1 beside it.
        angle: int16 degrees towards growing distance, even, -180..180; 0 is right, 90 down.
    """

    distance: NDArray[np.uint8]
    angle: NDArray[np.int16]


def boundary(label: NDArray[Any], *, ignore: int) -> Boundary:
    """Distances and directions of a label of class indices [H, W], at its own resolution.

    The image's edge is no boundary. Regions of one class that touch nowhere are one class all the same.
    """
    distance = np.zeros(label.shape, np.float32)
    angle = np.zeros(label.shape, np.float32)
    for index in np.unique(label):
        if index == ignore:
            continue
        inside = label == index
        if np.count_nonzero(inside) < SMALLEST_CLASS:
            continue
        box = _box(inside)
        depth = _depth(inside[box], whole=inside.all())
        distance[box] += depth
        angle[box] = np.where(inside[box], _angle(depth), angle[box])
    # The files hold half degrees counted from -180, cut off.
    stored = np.floor((angle + 180) / 2).astype(np.int16)
    return Boundary(np.minimum(distance, FARTHEST).astype(np.uint8), 2 * stored - 180)


def decode_boundary(data: bytes, where: str) -> Boundary:
    """Distances and directions in the bytes of a published `dt_offset` file. `where`: the file, for messages.

    Raises:
        DatasetError: it is none of these.
    """
    stored = decode_mat(data, where)
    try:
        depth, half_degrees = np.asarray(stored["depth"]), np.asarray(stored["dir_deg"])
        step = int(np.squeeze(stored["deg_reduce"]))
    except (KeyError, ValueError, TypeError) as error:
        raise DatasetError(f"{where} is no dt_offset file: {error!r}") from error
    if depth.ndim != 2 or depth.shape != half_degrees.shape:
        raise DatasetError(f"{where}: depth {depth.shape} and dir_deg {half_degrees.shape} are not one map each")
    return Boundary(depth.astype(np.uint8), (step * half_degrees.astype(np.int16) - 180).astype(np.int16))


def _box(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The class with one more pixel on every side, where the nearest of another class always is."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return tuple(slice(max(0, int(side[0]) - 1), int(side[-1]) + 2) for side in (rows, columns))  # type: ignore[return-value]


def _depth(inside: NDArray[np.bool_], *, whole: bool) -> NDArray[np.float32]:
    """Euclidean distance to the nearest pixel outside, 0 there.

    An image of one class has none. The published files measure to the place above its top left pixel then, an
    accident of the function that made them; it is kept, so that these maps are the ones of the files.
    """
    if whole:
        height, width = inside.shape
        return np.hypot(np.arange(1, height + 1)[:, None], np.arange(width)).astype(np.float32)
    return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # type: ignore[return-value]


def _angle(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Degrees of the gradient of `depth`: neighbours within 2 pixels, weighted by offset / offset squared.

    Beyond the image the distance counts as 0, so that it grows inwards from the edge.
    """
    offset = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    square = offset[:, None] ** 2 + offset**2
    square[_REACH, _REACH] = 1
    along = (offset / square).astype(np.float32)
    horizontal = cv2.filter2D(depth, cv2.CV_32F, along, borderType=cv2.BORDER_CONSTANT)
    vertical = cv2.filter2D(depth, cv2.CV_32F, along.T, borderType=cv2.BORDER_CONSTANT)
    return np.degrees(np.arctan2(vertical, horizontal))
