"""Verifies training crops as they run here against OpenCV's own steps: they must be the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from segzoo.kernels.check import Finding
from segzoo.kernels.training_crop import ColourSteps, numbers_of, training_crop
from segzoo.kernels.training_crop_reference import training_crop as reference

# OpenCV rounds colours otherwise in the columns after its last whole vector; crops of 64 columns have none.
_SIDES, _COLUMNS = (61, 83), 64
_STEPS = {
    "as they are": ColourSteps(),
    "brightness, contrast": ColourSteps(brightness=-20.3, early_contrast=1.37, late_contrast=0.61),
    "saturation, hue": ColourSteps(saturation=1.31, hue=-17),
}


def verify() -> Iterator[Finding]:
    """Compares crops of a shrunk and an enlarged picture in all kinds of colours."""
    image = np.random.default_rng(0).integers(0, 256, (*_SIDES, 3)).astype(np.uint8)
    for size in ((49, 67), (117, 160)):
        box = [size[0] // 3, size[0], 2, 2 + _COLUMNS]
        for name, steps in _STEPS.items():
            ours = training_crop(image, size, box, mirrored=True, steps=steps)
            theirs = reference(torch.from_numpy(image), list(size), box, True, numbers_of(steps)).numpy()
            error = float(np.abs(ours.astype(int) - theirs).max()) / 255
            case = f"{_SIDES[0]}x{_SIDES[1]} resized to {size[0]}x{size[1]}, {name}"
            yield Finding(part="training crop", case=case, result="crop", error=error, tolerance=0.0)
