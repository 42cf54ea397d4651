"""Whether an exported file gives what the model gives: logits at several sizes, labels through the protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segzoo.errors import ToleranceError
from segzoo.export.program import Program
from segzoo.inference import predict
from segzoo.inference.preprocess import aligned_size, view_size
from segzoo.inference.windows import window_grid
from segzoo.protocol import Protocol

LOGITS_TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the logits' standard deviation."""
LABELS_TOLERANCE = 0.001
"""Largest share of pixels whose label differs; at borders two logits may be equal to the last digit."""

PICTURE_SIZE = (192, 256)


def check_sizes(program: Program, protocol: Protocol) -> list[tuple[int, int]]:
    """The sizes to compare at: the traced one, and with open sizes others, as the protocol could give them."""
    height, width = program.shape[2:]
    step = protocol.size_divisor or 32
    sizes = [(height, width), (height + step, width), (height, width + 2 * step)]
    if protocol.size_divisor is None:
        sizes.append((height + 7, width + 13))
    return [size for size in sizes if program.takes(*size)]


def compare_logits(
    model: nn.Module, exported: nn.Module, sizes: list[tuple[int, int]], batch_size: int
) -> list[dict[str, Any]]:
    """One row for each size: the largest difference of a logit over their standard deviation.

    Raises:
        ToleranceError: one that is too large.
    """
    rows = []
    for number, (height, width) in enumerate(sizes):
        image = torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(number))
        with torch.inference_mode():
            truth, answer = model(image), exported(image)
        if truth.shape != answer.shape:
            raise ToleranceError(f"at {height}x{width} the file gives {list(answer.shape)}, not {list(truth.shape)}")
        error = float((truth - answer).abs().max() / truth.std())
        rows.append({"input": f"{height}x{width}", "largest_error": error, "tolerance": LOGITS_TOLERANCE})
        if not error <= LOGITS_TOLERANCE:
            raise ToleranceError(
                f"at {height}x{width} a logit of the file is off by {error:.2g} standard deviations, "
                f"{LOGITS_TOLERANCE:g} is allowed"
            )
    return rows


def compare_labels(model: nn.Module, exported: nn.Module, program: Program, protocol: Protocol) -> dict[str, Any]:
    """The share of pixels of a made-up picture whose label differs.

    It goes through the model's protocol where the file takes what the protocol gives it, else through the
    network alone at the traced size; the row says which.

    Raises:
        ToleranceError: too many.
    """
    size, used, word = PICTURE_SIZE, protocol, "as published"
    if not all(program.takes(*item) for item in _inputs(PICTURE_SIZE, protocol)):
        size, word = (program.shape[2], program.shape[3]), "whole picture, not resized"
        used = Protocol(scale=None, mean=protocol.mean, std=protocol.std)
    image = picture(*size)
    truth, answer = predict(model, image, used), predict(exported, image, used, device="cpu")
    share = float(np.mean(truth != answer))
    if share > LABELS_TOLERANCE:
        raise ToleranceError(
            f"{100 * share:.2f} % of the labels of the file differ, {100 * LABELS_TOLERANCE:g} % is allowed"
        )
    return {
        "protocol": word,
        "pixels": truth.size,
        "different_percent": 100 * share,
        "classes_seen": len(np.unique(truth)),
    }


def _inputs(size: tuple[int, int], protocol: Protocol) -> set[tuple[int, int]]:
    """(height, width) of all that the network gets for a picture of `size`."""
    found = set()
    for ratio in protocol.ratios:
        resized = view_size(size, protocol, ratio)
        if protocol.size_divisor is not None:
            resized = aligned_size(resized, protocol.size_divisor)
        rows, columns = window_grid(resized, protocol)
        found |= {(row.padded, column.padded) for row in rows for column in columns}
    return found


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3]: waves of several lengths in each channel, with noise; always the same."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [
        np.sin(rows / period + phase) * np.cos(columns / (1.7 * period) - phase)
        for period, phase in zip((9.0, 23.0, 51.0), generator.uniform(0, 6, 3), strict=True)
    ]
    smooth = 127 + 100 * np.stack(channels, axis=-1)
    return np.clip(smooth + generator.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
