"""Random problems for deformable attention, and both kernels behind one call."""

from __future__ import annotations

import torch
from neighborhood_cases import require_native
from torch import Tensor

from segzoo.kernels import deformable_reference as reference

FORWARD = torch.ops.segzoo.deformable_attention
BACKWARD = torch.ops.segzoo.deformable_attention_backward
SHAPES = [5, 7, 3, 2]  # two levels


def run(backend: str, value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    if backend == "native":
        require_native()
        return FORWARD(value, shapes, locations, weights)
    return reference.forward(value, shapes, locations, weights)


def run_backward(backend: str, grad: Tensor, value: Tensor, shapes: list[int], *rest: Tensor) -> tuple[Tensor, ...]:
    if backend == "native":
        require_native()
        return BACKWARD(grad, value, shapes, *rest)
    return reference.backward(grad, value, shapes, *rest)


def random_inputs(dtype: torch.dtype = torch.float64, dim: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, locations (a part outside), weights and the output's gradient: batch 2, 3 heads, 4 points, 6 queries."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = draw(2, 6, 3, 8).softmax(-1).unflatten(-1, (2, 4))
    return draw(2, 41, 3, dim) - 0.5, draw(2, 6, 3, 2, 4, 2) * 1.6 - 0.3, weights, draw(2, 6, 3 * dim) - 0.5
