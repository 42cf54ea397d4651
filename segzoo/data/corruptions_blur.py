"""Blur of a lens, of a moving camera and of zooming, on pixels 0..1 (float32 [H, W, 3])."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

_SUBPIXELS = 9
_MOTION_DEGREES = 45.0


def defocus(pixels: Pixels, radius: float) -> Pixels:
    """The image through a disc of `radius` pixels, as a lens out of focus makes it."""
    return _filtered(pixels, disc(radius))


def gaussian_blur(pixels: Pixels, deviation: float) -> Pixels:
    """A Gaussian with a standard deviation of `deviation` pixels."""
    reach = math.ceil(4 * deviation)
    size = 2 * reach + 1, 2 * reach + 1
    return cv2.GaussianBlur(pixels, size, deviation, borderType=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def motion(pixels: Pixels, line: tuple[int, float], generator: np.random.Generator) -> Pixels:
    """A trail along a line that leans up to 45 degrees to either side of the horizontal.

    Args:
        line: see `trail`.
    """
    degrees = generator.uniform(-_MOTION_DEGREES, _MOTION_DEGREES)
    return _filtered(pixels, trail(*line, degrees))


def zoom(pixels: Pixels, factors: tuple[float, float]) -> Pixels:
    """The mean of the image, once more itself, and enlargements about its middle.

    Args:
        factors: the step and the largest of the enlargements 1, 1 + step, ...
    """
    step, largest = factors
    count = round((largest - 1) / step) + 1
    total = pixels.copy()
    for index in range(count):
        total += _enlarged(pixels, 1 + index * step)
    return total / np.float32(count + 1)


def disc(radius: float) -> NDArray[np.float32]:
    """Weights of a disc, each the share of its pixel that the disc covers; they sum to 1."""
    reach = math.ceil(radius)
    # The middles of 9 x 9 parts of every pixel.
    parts = (np.arange((2 * reach + 1) * _SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5 - reach
    inside = (parts[:, None] ** 2 + parts**2 <= radius**2).astype(np.float32)
    side = 2 * reach + 1
    weights = inside.reshape(side, _SUBPIXELS, side, _SUBPIXELS).sum(axis=(1, 3))
    return (weights / weights.sum()).astype(np.float32)


def trail(radius: int, deviation: float, degrees: float) -> NDArray[np.float32]:
    """Weights of a trail: 2 * radius + 1 points from the middle in one direction, fading as half a Gaussian.

    Args:
        radius: half the trail's length in pixels.
        deviation: of the Gaussian, in pixels.
        degrees: direction; 0 is along the rows, 90 along the columns.
    """
    length = 2 * radius
    weights = np.zeros((2 * length + 3, 2 * length + 3), np.float32)
    for distance in range(length + 1):
        row = length + 1 + distance * math.sin(math.radians(degrees))
        column = length + 1 + distance * math.cos(math.radians(degrees))
        top, left = math.floor(row), math.floor(column)
        weight = math.exp(-0.5 * (distance / deviation) ** 2)
        # Shared out among the four pixels around the point.
        for down in (0, 1):
            for right in (0, 1):
                share = (1 - abs(row - top - down)) * (1 - abs(column - left - right))
                weights[top + down, left + right] += weight * share
    return weights / weights.sum()


def _filtered(pixels: Pixels, weights: NDArray[np.float32]) -> Pixels:
    return cv2.filter2D(pixels, cv2.CV_32F, weights, borderType=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def _enlarged(pixels: Pixels, factor: float) -> Pixels:
    height, width = pixels.shape[:2]
    to_source = np.array(
        [[1 / factor, 0, (width - 1) / 2 * (1 - 1 / factor)], [0, 1 / factor, (height - 1) / 2 * (1 - 1 / factor)]]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, to_source, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]
