"""Deformable attention on CUDA: Mask2Former's pixel decoder at 512x512, batch 16, against the classic mapping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segzoo.kernel_bench.contest import Contest
from segzoo.kernel_bench.cuda_clock import Layered
from segzoo.kernels import deformable_reference as reference
from segzoo.kernels.build import build
from segzoo.kernels.sources import cuda_rivals

HEADS, HEAD_DIM, POINTS = 8, 32, 4
_SIDES = (64, 32, 16)
_SPREAD = 4.0  # standard deviation of the offsets in tokens of a level
_OPERATOR = "deformable_attention"


def forward(device: torch.device) -> list[Layered]:
    """The forward pass in float32, the one type that the classic mapping has."""
    inputs = problem(device, torch.float32)
    contest = Contest(
        case=_case(device), ours=_call(getattr(torch.ops.segzoo, _OPERATOR), inputs), rival=_classic("", inputs, device)
    )
    _require_near(contest)
    return [Layered(contest=contest)]


def backward(device: torch.device) -> list[Layered]:
    """The backward pass in float32."""
    inputs = problem(device, torch.float32)
    arguments = (gradient(inputs), *inputs)
    ours = _call(getattr(torch.ops.segzoo, f"{_OPERATOR}_backward"), arguments)
    contest = Contest(case=_case(device), ours=ours, rival=_classic("_backward", arguments, device))
    _require_near(contest)
    return [Layered(contest=contest)]


def problem(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, list[int], Tensor, Tensor]:
    """Value, flat sides, locations and weights; every token of every level asks around its own place."""
    batch, sides = (16, _SIDES) if device.type == "cuda" else (1, tuple(side // 4 for side in _SIDES))
    generator = torch.Generator().manual_seed(0)
    centres = torch.cat([_centres(side) for side in sides])[None, :, None, None, None]
    places = (batch, centres.shape[1], HEADS, len(sides), POINTS)
    scale = torch.tensor(sides, dtype=torch.float32)[:, None, None]
    locations = centres + torch.randn(*places, 2, generator=generator) * _SPREAD / scale
    weights = torch.randn(places, generator=generator).flatten(3).softmax(-1).view(places)
    value = torch.randn(batch, centres.shape[1], HEADS, HEAD_DIM, generator=generator)
    shapes = [side for side in sides for _ in range(2)]
    return value.to(device, dtype), shapes, locations.to(device), weights.to(device)


def gradient(inputs: tuple[Tensor, list[int], Tensor, Tensor]) -> Tensor:
    """A gradient of the output."""
    value, queries = inputs[0], inputs[2].shape[1]
    grad = torch.randn(value.shape[0], queries, HEADS * HEAD_DIM, generator=torch.Generator().manual_seed(1))
    return grad.to(value)


def _centres(side: int) -> Tensor:
    places = torch.arange(side)
    return (torch.cartesian_prod(places, places).flip(-1) + 0.5) / side


def _classic(suffix: str, arguments: tuple[Any, ...], device: torch.device) -> Callable[[], Any]:
    """The rival; in a rehearsal on the CPU, which it does not run on, the readable reference."""
    if device.type != "cuda":
        return _call(reference.backward if suffix else reference.forward, arguments)
    torch.ops.load_library(build(cuda_rivals(), []))
    return _call(getattr(torch.ops.segzoo_rivals, f"deformable_classic{suffix}"), arguments)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _case(device: torch.device) -> str:
    return "5376 queries, 3 levels, 4 points, batch 16, fp32" if device.type == "cuda" else "a small problem"


def _require_near(contest: Contest) -> None:
    """A rival that computes something else is none.

    A few values in a million may differ: between two pixels the slope jumps, and either may round to the other side.
    """
    ours, rival = contest.ours(), contest.rival()
    pairs = zip(*([results] if isinstance(results, Tensor) else results for results in (ours, rival)), strict=True)
    for mine, its in pairs:
        near = (mine - its).abs() <= 1e-3 * mine.abs().max()
        share = 1 - near.double().mean().item()
        if share > 1e-5:
            raise ValueError(f"{share:.1e} of the rival's values differ by more than a thousandth of the largest")
