"""A side's taps as a matrix, to compare with plain resampling."""

from __future__ import annotations

import torch

from segzoo.inference.resampling import Side, side_taps


def matrix_of(side: Side) -> torch.Tensor:
    """[image side, logit side]: upsampling, averaging of the windows and second resize in one."""
    taps = side_taps(side, torch.device("cpu"))
    matrix = torch.zeros(side.image, len(side.windows) * side.logits)
    return matrix.scatter_add_(1, taps.sources.long(), taps.weights)
