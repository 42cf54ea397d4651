"""What looks like weather: fog, snow, frost on the lens and glaring light, on pixels 0..1 (float32 [H, W, 3])."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from segzoo.data.corruptions_blur import trail

Pixels = NDArray[np.float32]

_ICE_COLOUR = (0.82, 0.90, 1.0)
_ICE_HEIGHTS = (0.2, 0.4, 0.6, 0.8)
_ICE_WIDTH = 0.012


def fog(pixels: Pixels, amount: tuple[float, float], generator: np.random.Generator) -> Pixels:
    """Uneven fog over the image, which keeps its brightest value.

    Args:
        amount: thickness, and how quickly the fog's smaller structures fade (see `clouds`).
    """
    thickness, decay = amount
    brightest = float(pixels.max())
    layer = clouds(pixels.shape[:2], decay, generator)
    return (pixels + np.float32(thickness) * layer[..., None]) * np.float32(brightest / (brightest + thickness))


def snow(
    pixels: Pixels, fall: tuple[float, float, float, float, int, float, float], generator: np.random.Generator
) -> Pixels:
    """Flakes that fall in streaks, once as they are and once turned by 180 degrees, over a paler image.

    Args:
        fall: mean and standard deviation of the noise that flakes are cut from, its enlargement, the value below
            which there is no flake, the streaks' radius and deviation (see `trail`), and the image's own share
            in the paler one.
    """
    mean, deviation, enlargement, threshold, radius, fade, share = fall
    height, width = pixels.shape[:2]
    small = math.ceil(height / enlargement), math.ceil(width / enlargement)
    noise = np.float32(mean) + np.float32(deviation) * generator.standard_normal(small, np.float32)
    layer = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    layer = np.where(layer < threshold, np.float32(0), layer).clip(0, 1)
    degrees = generator.uniform(45, 135)
    layer = cv2.filter2D(layer, cv2.CV_32F, trail(radius, fade, degrees), borderType=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    pale = np.float32(share) * pixels + np.float32(1 - share) * np.maximum(pixels, 1.5 * grey + 0.5)
    return pale + (layer + layer[::-1, ::-1])[..., None]


def frost(pixels: Pixels, weights: tuple[float, float], generator: np.random.Generator) -> Pixels:
    """The image seen through ice: a sum of it and a drawn layer of crystals, with two weights."""
    of_image, of_ice = weights
    return np.float32(of_image) * pixels + np.float32(of_ice) * _ice(pixels.shape[:2], generator)


def brightness(pixels: Pixels, amount: float) -> Pixels:
    """The value (of hue, saturation and value) raised by `amount`."""
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    colours[..., 2] = (colours[..., 2] + np.float32(amount)).clip(0, 1)
    return cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def clouds(size: tuple[int, int], decay: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random field [H, W] with structures of every size, cut from a square of 0..1.

    Uniform noise of 2 x 2, 4 x 4, ... cells is added up, each with 1/decay**2 of the weight of the one before: the
    rule by which the plasma fractals of the published corruption fade. As there, the square's side is a power of
    two and the field its upper left part.

    Args:
        size: height and width.
    """
    height, width = size
    side = 2 ** math.ceil(math.log2(max(*size, 2)))
    total, weight, cells = np.zeros((side, side), np.float32), 1.0, 2
    while cells <= side:
        grid = generator.random((cells, cells), np.float32)
        total += np.float32(weight) * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight / decay**2
    total -= total.min()
    return np.ascontiguousarray(total[:height, :width]) / total.max()


def _ice(size: tuple[int, int], generator: np.random.Generator) -> Pixels:
    """Crystals: bright ridges along contours of clouds, denser and whiter in patches, in a bluish white."""
    patches = clouds(size, 1.6, generator)
    ridges = np.zeros(size, np.float32)
    for decay in (1.15, 1.25, 1.35):
        field = clouds(size, decay, generator)
        for height in np.quantile(field[::8, ::8], _ICE_HEIGHTS):
            ridges += np.exp(-np.abs(field - np.float32(height)) / np.float32(_ICE_WIDTH))
    light = (0.15 + 0.6 * ridges) * (0.15 + 0.85 * patches) + 0.45 * patches**2
    return (light.clip(0, 1)[..., None] * np.array(_ICE_COLOUR, np.float32)).astype(np.float32)
