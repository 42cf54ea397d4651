"""What is left to chance in `scenes`: random draws and noise, the same bits on every machine."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Array = np.ndarray
Colour = tuple[float, float, float]
Number = float | Array
Choice = TypeVar("Choice")

ATLAS_SIDE = 256


class Dice:
    """The random draws of one scene, from numpy's frozen Mersenne twister stream."""

    def __init__(self, split: str, index: int, purpose: str) -> None:
        self._state = np.random.RandomState([zlib.crc32(f"{split}/{purpose}".encode()), index])

    def between(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * float(self._state.random_sample())

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return float(self._state.random_sample()) < probability

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(float(self._state.random_sample()) * (high - low + 1))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of the choices, all equally likely."""
        return choices[self.integer(0, len(choices) - 1)]

    def colour(self, choices: Sequence[Colour], spread: float = 14.0) -> Colour:
        """One of the colours, each channel and the common brightness jittered by up to `spread`."""
        red, green, blue = self.pick(choices)
        common = self.between(-spread, spread)
        half = spread / 2
        return (
            red + common + self.between(-half, half),
            green + common + self.between(-half, half),
            blue + common + self.between(-half, half),
        )

    def bytes_array(self, shape: tuple[int, ...]) -> Array:
        """Uniform integers 0..255 of this shape."""
        return self._state.randint(0, 256, shape)


@functools.lru_cache(maxsize=1)
def noise_atlas() -> Array:
    """Tileable fractal value noise [256, 256] in 0..1, the same for all scenes."""
    state = np.random.RandomState(20)
    total = np.zeros((ATLAS_SIDE, ATLAS_SIDE))
    for cells, weight in ((8, 0.40), (16, 0.25), (32, 0.17), (64, 0.11), (128, 0.07)):
        lattice = state.randint(0, 1024, (cells, cells)) / 1023.0
        position = np.arange(ATLAS_SIDE) * (cells / ATLAS_SIDE)
        low = np.floor(position).astype(np.int64)
        part = position - low
        smooth = part * part * (3.0 - 2.0 * part)
        high = (low + 1) % cells
        rows = lattice[low] * (1.0 - smooth)[:, None] + lattice[high] * smooth[:, None]
        total += weight * (rows[:, low] * (1.0 - smooth) + rows[:, high] * smooth)
    stretched = (total - 0.5) * 1.8 + 0.5
    return np.clip(stretched, 0.0, 1.0).astype(np.float32)


def noise(down: Number, across: Number, smooth: bool = False) -> Array:
    """The atlas at float positions in texels, wrapped; nearest texel, or bilinear when `smooth`."""
    atlas = noise_atlas()
    last = ATLAS_SIDE - 1
    row, column = np.floor(down), np.floor(across)
    top, left = row.astype(np.int64) & last, column.astype(np.int64) & last
    if not smooth:
        return atlas[top, left]
    bottom, right = (top + 1) & last, (left + 1) & last
    fall = (down - row).astype(np.float32)
    slide = (across - column).astype(np.float32)
    upper = atlas[top, left] * (1 - slide) + atlas[top, right] * slide
    lower = atlas[bottom, left] * (1 - slide) + atlas[bottom, right] * slide
    return upper * (1 - fall) + lower * fall
