"""Non-negative matrix factorisation as a layer: the ham of Hamburger (arXiv 2109.04553), as SegNeXt uses it.

The originals draw new random bases in every forward pass, in evaluation too, so that 1 to 15 % of the pixels change
class from one evaluation to the next. Here the bases of evaluation are drawn once, from a seed.

Letters: B batch, D channels, N positions, R bases, H height, W width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.device import has_autocast


class MatrixDecomposition(nn.Module):
    """Replaces a non-negative map by its product of R bases and coefficients, found by multiplicative updates.

    Args:
        channels: D.
        rank: R.
        train_steps: updates in training.
        eval_steps: updates in evaluation.
        eps: added to denominators.
        full_gradient: gradients flow through all updates; else through the last one of the coefficients alone.
        seed: of the bases in evaluation. In training every image gets new ones from torch's generator.

    Attributes:
        bases: [1, D, R] float32, of unit length along D; not in the state dict. May be overwritten.
    """

    bases: Tensor

    def __init__(
        self,
        channels: int,
        rank: int,
        *,
        train_steps: int = 6,
        eval_steps: int = 7,
        eps: float = 1e-6,
        full_gradient: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train_steps = train_steps
        self.eval_steps = eval_steps
        self.eps = eps
        self.full_gradient = full_gradient
        drawn = np.random.RandomState(seed).uniform(0, 1, (1, channels, rank)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        self.register_buffer("bases", torch.tensor(drawn), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D, H, W], non-negative -> [B, D, H, W]."""
        with _full_precision(features.device.type):
            matrix = features.flatten(2)
            if matrix.dtype in (torch.float16, torch.bfloat16):
                matrix = matrix.float()
            bases = self._initial_bases(matrix)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.full_gradient):
                coefficients = (matrix.transpose(1, 2) @ bases).softmax(dim=-1)
                for _ in range(self.train_steps if self.training else self.eval_steps):
                    coefficients = self._updated(coefficients, matrix.transpose(1, 2), bases)
                    bases = self._updated(bases, matrix, coefficients)
            coefficients = self._updated(coefficients, matrix.transpose(1, 2), bases)
            return (bases @ coefficients.transpose(1, 2)).to(features.dtype).view_as(features)

    def extra_repr(self) -> str:
        """Shows the sizes in the printed model."""
        return f"channels={self.bases.shape[1]}, rank={self.bases.shape[2]}"

    def _initial_bases(self, matrix: Tensor) -> Tensor:
        if not self.training:
            return self.bases.to(matrix.dtype).expand(matrix.shape[0], -1, -1)
        return F.normalize(matrix.new_empty((matrix.shape[0], *self.bases.shape[1:])).uniform_(), dim=1)

    def _updated(self, factor: Tensor, matrix: Tensor, other: Tensor) -> Tensor:
        """One multiplicative step of `factor` in matrix = factor @ other^T."""
        return factor * (matrix @ other) / (factor @ (other.transpose(1, 2) @ other) + self.eps)


def _full_precision(device_type: str) -> AbstractContextManager:
    """Autocast off: the products of the updates leave half precision's range."""
    if not has_autocast(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
