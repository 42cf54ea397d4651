"""Photometric distortion of mmsegmentation: brightness, contrast, saturation and hue of uint8 pictures.

Steps that treat every value alike become one look-up table, which gives the same numbers as the steps in turn: each
of them ends with cutting to whole numbers. Saturation and hue are each a journey through OpenCV's 8-bit HSV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segzoo.data.transforms import Draws

_BRIGHTNESS = 32.0
_FACTORS = (0.5, 1.5)
_HUE = 18
_HUES = 180
_HUE_CHANNEL, _SATURATION = 0, 1


@dataclass(frozen=True, kw_only=True)
class Colours:
    """The draws of one picture; None leaves a step out.

    Attributes:
        brightness: what is added.
        contrast: factor on all values.
        contrast_first: contrast comes before saturation and hue, not after them.
        saturation: factor on HSV's S.
        hue: what is added to HSV's H, in units of 2 degrees.
    """

    brightness: float | None = None
    contrast: float | None = None
    contrast_first: bool = True
    saturation: float | None = None
    hue: int | None = None


def draw_colours(draws: Draws) -> Colours:
    """Every step has an even chance; the order of the draws is the original's."""
    brightness = draws.uniform(-_BRIGHTNESS, _BRIGHTNESS) if draws.integers(0, 2) else None
    first = bool(draws.integers(0, 2))
    contrast = draws.uniform(*_FACTORS) if first and draws.integers(0, 2) else None
    saturation = draws.uniform(*_FACTORS) if draws.integers(0, 2) else None
    hue = int(draws.integers(-_HUE, _HUE)) if draws.integers(0, 2) else None
    if not first and draws.integers(0, 2):
        contrast = draws.uniform(*_FACTORS)
    return Colours(brightness=brightness, contrast=contrast, contrast_first=first, saturation=saturation, hue=hue)


def distort(image: NDArray[np.uint8], colours: Colours) -> NDArray[np.uint8]:
    """`image` in other colours: uint8 RGB [H, W, 3]; itself where nothing was drawn."""
    early = colours.contrast if colours.contrast_first else None
    image = _look_up(image, _table(1.0, colours.brightness), None if early is None else _table(early, 0.0))
    if colours.saturation is not None:
        values = _table(colours.saturation, 0.0)
        assert values is not None
        image = _through_hsv(image, _SATURATION, values)
    if colours.hue is not None:
        shifted = ((np.arange(256) + colours.hue) % _HUES).astype(np.uint8)
        image = _through_hsv(image, _HUE_CHANNEL, shifted)
    late = None if colours.contrast_first or colours.contrast is None else _table(colours.contrast, 0.0)
    return _look_up(image, late)


def _table(factor: float, shift: float | None) -> NDArray[np.uint8] | None:
    """value * factor + shift in float32, clipped and cut (not rounded) to a whole number, for each of 256 values."""
    if shift is None:
        return None
    values = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return np.clip(values, 0, 255).astype(np.uint8)


def _look_up(image: NDArray[np.uint8], *tables: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    joined = None
    for table in tables:
        if table is not None:
            joined = table if joined is None else table[joined]
    return image if joined is None else cv2.LUT(image, joined)  # type: ignore[return-value]


def _through_hsv(image: NDArray[np.uint8], channel: int, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """To HSV, one channel through a table of 256 values, and back."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, channel), table), hsv, channel)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]
