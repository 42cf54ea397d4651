"""Verifies what becomes of pictures before the network, as it runs here: the references' bytes and floats, exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from segzoo.kernels import png_rows
from segzoo.kernels.check import Finding
from segzoo.kernels.training_crop import ColourSteps, normalised_crops, numbers_of, training_crop
from segzoo.kernels.training_crop_reference import normalised_crops as normalised_reference
from segzoo.kernels.training_crop_reference import training_crop as crop_reference

# OpenCV rounds colours otherwise in the columns after its last whole vector; crops of 64 columns have none.
_SIDES, _COLUMNS = (61, 83), 64
_STEPS = {
    "as they are": ColourSteps(),
    "brightness, contrast": ColourSteps(brightness=-20.3, early_contrast=1.37, late_contrast=0.61),
    "saturation, hue": ColourSteps(saturation=1.31, hue=-17),
}
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def verify_crops() -> Iterator[Finding]:
    """Crops of a shrunk and an enlarged picture in all kinds of colours, and the network's input of them."""
    image = np.random.default_rng(0).integers(0, 256, (*_SIDES, 3)).astype(np.uint8)
    for size in ((49, 67), (117, 160)):
        box = [size[0] // 3, size[0], 2, 2 + _COLUMNS]
        for name, steps in _STEPS.items():
            ours = training_crop(image, size, box, mirrored=True, steps=steps)
            theirs = crop_reference(torch.from_numpy(image), list(size), box, True, numbers_of(steps)).numpy()
            error = float(np.abs(ours.astype(int) - theirs).max()) / 255
            yield _exact("training crop", f"{_SIDES[0]}x{_SIDES[1]} resized to {size[0]}x{size[1]}, {name}", error)
    crops, extents = torch.from_numpy(image)[None], torch.tensor([[_SIDES[0] - 3, _SIDES[1] - 5]])
    for channels_last in (False, True):
        batch = normalised_crops(crops, extents, _MEAN, _STD, channels_last=channels_last)
        plain = normalised_reference(crops, extents, _MEAN, _STD, channels_last)
        error = float((batch - (plain.permute(0, 3, 1, 2) if channels_last else plain)).abs().max())
        yield _exact("training crop", f"normalised, channels {'last' if channels_last else 'first'}", error)


def verify_labels() -> Iterator[Finding]:
    """Rows of a PNG by each of its five filters, flat in part."""
    height, width = 40, 77
    draws = np.random.default_rng(0)
    for kind in range(5):
        rows = draws.integers(0, 256, (height, 1 + width)).astype(np.uint8)
        rows[draws.random(rows.shape) < 0.5] = 0
        rows[height // 2 :, : width // 2] = 0
        rows[:, 0] = kind
        ours = png_rows.png_rows(rows.ravel(), height, width)
        theirs = png_rows.reference(torch.from_numpy(rows.ravel()), height, width).numpy()
        error = float(np.abs(ours.astype(int) - theirs).max()) / 255
        yield _exact("PNG label", f"{height}x{width}, filter {kind}", error)


def _exact(part: str, case: str, error: float) -> Finding:
    return Finding(part=part, case=case, result="values", error=error, tolerance=0.0)
