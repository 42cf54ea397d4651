"""Noise of a sensor: Gaussian, shot and impulse noise, on pixels 0..1 (float32 [H, W, 3])."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


def gaussian_noise(pixels: Pixels, deviation: float, generator: np.random.Generator) -> Pixels:
    """Independent normal noise with a standard deviation of `deviation`, as in poor light."""
    return pixels + np.float32(deviation) * generator.standard_normal(pixels.shape, np.float32)


def shot_noise(pixels: Pixels, photons: float, generator: np.random.Generator) -> Pixels:
    """Poisson noise where white is `photons` photons."""
    return (generator.poisson(pixels * photons) / photons).astype(np.float32)


def impulse_noise(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """A share of all values becomes 0 or 1, each with half the chance, channel by channel."""
    draws = generator.random(pixels.shape, np.float32)
    return np.where(draws < share / 2, np.float32(0), np.where(draws < share, np.float32(1), pixels))
