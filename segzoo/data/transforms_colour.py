"""What the photometric distortion of mmsegmentation draws: brightness, contrast, saturation and hue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.kernels.training_crop import ColourSteps

if TYPE_CHECKING:
    from segzoo.data.transforms import Draws

_BRIGHTNESS = 32.0
_FACTORS = (0.5, 1.5)
_HUE = 18


def draw_colours(draws: Draws) -> ColourSteps:
    """Every step has an even chance; the order of the draws is the original's."""
    brightness = draws.uniform(-_BRIGHTNESS, _BRIGHTNESS) if draws.integers(0, 2) else None
    first = bool(draws.integers(0, 2))
    early = draws.uniform(*_FACTORS) if first and draws.integers(0, 2) else None
    saturation = draws.uniform(*_FACTORS) if draws.integers(0, 2) else None
    hue = int(draws.integers(-_HUE, _HUE)) if draws.integers(0, 2) else None
    late = draws.uniform(*_FACTORS) if not first and draws.integers(0, 2) else None
    return ColourSteps(brightness=brightness, early_contrast=early, saturation=saturation, hue=hue, late_contrast=late)
