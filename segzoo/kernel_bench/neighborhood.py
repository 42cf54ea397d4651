"""Neighborhood attention on the CPU: the four stages of NAT-Tiny at 512x512, batch 1, float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.kernel_bench import rivals
from segzoo.kernel_bench.contest import Contest
from segzoo.kernel_bench.memory import peak_bytes
from segzoo.kernel_bench.record import Result
from segzoo.kernel_bench.targets import target
from segzoo.kernels import neighborhood_attention_2d, reference
from segzoo.kernels.neighborhood import forward_flops

HEAD_DIM, KERNEL = 32, 7


@dataclass(frozen=True)
class Stage:
    """A square map and its heads."""

    side: int
    heads: int

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, {self.heads} heads"

    def inputs(self) -> tuple[Tensor, Tensor]:
        """A fused projection [1, H, W, 3, N, D] and the bias table [N, 2K-1, 2K-1]."""
        generator = torch.Generator().manual_seed(self.side)
        fused = torch.randn(1, self.side, self.side, 3, self.heads, HEAD_DIM, generator=generator)
        return fused, torch.randn(self.heads, 2 * KERNEL - 1, 2 * KERNEL - 1, generator=generator)

    @property
    def flops(self) -> int:
        """FLOPs of the forward's two products, 2 a multiply-add."""
        shape = torch.Size((1, self.side, self.side, self.heads, HEAD_DIM))
        return forward_flops(shape, shape, shape, None, KERNEL)


STAGES = (Stage(128, 2), Stage(64, 4), Stage(32, 8), Stage(16, 16))


def _forward(stage: Stage) -> Callable[[], Tensor]:
    fused, bias = stage.inputs()
    query, key, value = fused.unbind(3)
    return lambda: neighborhood_attention_2d(query, key, value, bias, kernel_size=KERNEL)


def forward_contests() -> list[Contest]:
    """Against one dot product per pair."""
    return [Contest(case=str(stage), ours=_forward(stage), rival=_pairwise(stage)) for stage in STAGES]


def _pairwise(stage: Stage) -> Callable[[], Tensor]:
    fused, bias = stage.inputs()
    query, key, value = fused.unbind(3)
    return rivals.neighborhood_attention(query, key, value, bias, kernel_size=KERNEL, scale=HEAD_DIM**-0.5)


def peak_contests() -> list[Contest]:
    """Against as many multiply-adds in registers: the ratio is the share of the peak."""
    return [Contest(case=str(stage), ours=_forward(stage), rival=rivals.multiply_add(stage.flops)) for stage in STAGES]


def training_contests() -> list[Contest]:
    """Forward and backward against autograd over gathered neighbourhoods."""
    return [
        Contest(case=str(stage), ours=_training(stage, _attend), rival=_training(stage, gathered_attention))
        for stage in STAGES
    ]


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return neighborhood_attention_2d(query, key, value, bias, kernel_size=KERNEL)


def _training(stage: Stage, attend: Callable[..., Tensor]) -> Callable[[], object]:
    fused, bias = stage.inputs()
    leaves = fused.requires_grad_(), bias.requires_grad_()
    grad = torch.randn(1, stage.side, stage.side, stage.heads, HEAD_DIM, generator=torch.Generator().manual_seed(1))

    def step() -> object:
        return torch.autograd.grad(attend(*leaves[0].unbind(3), leaves[1]), leaves, grad)

    return step


def gathered_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """What PyTorch alone offers: all neighbourhoods gathered into one tensor, two batched products, autograd.

    Args:
        query: [B, H, W, N, D], as are `key` and `value`.
        key: see `query`.
        value: see `query`.
        bias: [N, 2K-1, 2K-1].
    """
    rows, row_bias = reference.axis_neighbours(query.shape[1], KERNEL, 1)
    columns, column_bias = reference.axis_neighbours(query.shape[2], KERNEL, 1)

    def windows(tensor: Tensor) -> Tensor:
        """[B, H, W, N, K*K, D]."""
        every = tensor.unfold(1, KERNEL, 1).unfold(2, KERNEL, 1)  # [B, H-K+1, W-K+1, N, D, K, K]
        return every[:, rows[:, :1], columns[None, :, 0]].flatten(-2).transpose(-1, -2)

    logits = (query * HEAD_DIM**-0.5).unsqueeze(-2) @ windows(key).transpose(-1, -2)  # [B, H, W, N, 1, K*K]
    table = bias[:, row_bias][..., column_bias].permute(1, 3, 0, 2, 4).flatten(-2)
    weights = F.softmax(logits + table.unsqueeze(-2), dim=-1)
    return (weights @ windows(value)).squeeze(-2)


def memory_result() -> Result:
    """Peak memory of forward and backward beyond what was there before, for the largest stage."""
    stage = STAGES[0]
    ours, rival = (peak_bytes(_training(stage, attend)) for attend in (_attend, gathered_attention))
    row = {"case": str(stage), "ours_bytes": ours, "rival_bytes": rival, "ratio": rival / ours}
    return Result(target=target("neighborhood-memory"), value=rival / ours, values=[row])
