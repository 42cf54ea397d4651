"""Deformable attention on the CPU: UN-EPT's encoder and decoder at 480x480, batch 1, float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segzoo.kernel_bench.contest import Contest
from segzoo.kernels import deformable_reference as reference

SIDE, LEVELS, HEADS, HEAD_DIM, POINTS = 60, 3, 8, 32, 16
_SPREAD = 6.0  # standard deviation of the offsets in tokens
_PARTS = {"encoder, 10800 queries": LEVELS * SIDE**2, "decoder, 3600 queries": SIDE**2}


def forward_contests() -> list[Contest]:
    """Against PyTorch's grid_sample."""
    return [
        Contest(case=case, ours=_ours("deformable_attention", inputs), rival=_call(reference.forward, inputs))
        for case, queries in _PARTS.items()
        for inputs in [_inputs(queries)]
    ]


def backward_contests() -> list[Contest]:
    """Against autograd's backward pass alone, over a graph that was made before."""
    return [
        Contest(
            case=case,
            ours=_ours("deformable_attention_backward", (grad, *inputs)),
            rival=_autograd(inputs, grad),
        )
        for case, queries in _PARTS.items()
        for inputs, grad in [(_inputs(queries), torch.randn(1, queries, HEADS * HEAD_DIM))]
    ]


def _autograd(inputs: tuple[Any, ...], grad: Tensor) -> Callable[[], object]:
    value, shapes, locations, weights = inputs
    leaves = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
    output = reference.forward(leaves[0], shapes, leaves[1], leaves[2])
    return lambda: torch.autograd.grad(output, leaves, grad, retain_graph=True)


def _ours(name: str, inputs: tuple[Any, ...]) -> Callable[[], object]:
    operator = getattr(torch.ops.segzoo, name)
    return lambda: operator(*inputs)


def _call(function: Callable, inputs: tuple[Any, ...]) -> Callable[[], object]:
    return lambda: function(*inputs)


def _inputs(queries: int) -> tuple[Tensor, list[int], Tensor, Tensor]:
    """Value, flat sides of the levels, locations and weights; each query looks around its own place."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(1, LEVELS * SIDE**2, HEADS, HEAD_DIM, generator=generator)
    centres = (torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).flip(-1) + 0.5) / SIDE
    centres = centres.repeat(queries // SIDE**2, 1)[None, :, None, None, None]
    places = (1, queries, HEADS, LEVELS, POINTS)
    locations = centres + torch.randn(*places, 2, generator=generator) * _SPREAD / SIDE
    weights = torch.randn(places, generator=generator).flatten(3).softmax(-1).view(places)
    return value, [SIDE, SIDE] * LEVELS, locations, weights
