"""Neighborhood attention on CUDA: NAT-Tiny's 30 layers, 512x512, batch 16, bf16, against flex_attention and a copy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segzoo.kernel_bench.contest import Contest
from segzoo.kernel_bench.cuda_clock import Layered
from segzoo.kernel_bench.neighborhood import gathered_attention
from segzoo.kernels import neighborhood_attention_2d

HEAD_DIM, KERNEL = 32, 7
_STAGES = ((128, 2, 3), (64, 4, 4), (32, 8, 18), (16, 16, 5))
"""Side of the map, heads, layers."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the problems are: the claim's own, or small ones for a rehearsal on the CPU."""

    batch: int
    shrink: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, device: torch.device) -> Size:
        """The claim's own on a GPU."""
        if device.type == "cuda":
            return cls(batch=16, shrink=1, dtype=torch.bfloat16, device=device)
        return cls(batch=1, shrink=8, dtype=torch.float32, device=device)

    def stages(self) -> list[tuple[int, int, int]]:
        """Side, heads and layers of each stage."""
        return [(max(side // self.shrink, KERNEL + 1), heads, layers) for side, heads, layers in _STAGES]

    def inputs(self, side: int, heads: int) -> tuple[Tensor, Tensor]:
        """The fused projection [B, H, W, 3, N, D] and the bias table, float32."""
        generator = torch.Generator().manual_seed(side)
        fused = torch.randn(self.batch, side, side, 3, heads, HEAD_DIM, generator=generator)
        bias = torch.randn(heads, 2 * KERNEL - 1, 2 * KERNEL - 1, generator=generator)
        return fused.to(self.device, self.dtype), bias.to(self.device)


def bandwidth(device: torch.device) -> list[Layered]:
    """Against a copy of as many bytes as the layer must read and write: the ratio is the share of the bandwidth."""
    size, items = Size.of(device), []
    for side, heads, layers in size.stages():
        fused, bias = size.inputs(side, heads)
        # Queries, keys, values and output; a copy of half of them reads and writes the same number of bytes.
        source = fused[:, :, :, :2].contiguous()
        contest = Contest(
            case=f"{side}x{side}, {heads} heads",
            ours=_forward(fused, bias),
            rival=functools.partial(torch.empty_like(source).copy_, source),
        )
        items.append(Layered(contest=contest, layers=layers))
    return items


def forward(device: torch.device) -> list[Layered]:
    """Against flex_attention, compiled where there is a GPU; its mask is made before."""
    size, items = Size.of(device), []
    for side, heads, layers in size.stages():
        fused, bias = size.inputs(side, heads)
        rival = Flex(side, device)
        inputs = rival.heads_first(fused)
        contest = Contest(
            case=f"{side}x{side}, {heads} heads",
            ours=_forward(fused, bias),
            rival=_without_gradient(functools.partial(rival.attend, inputs, bias)),
        )
        _require_equal(_forward(fused, bias)(), rival.heads_last(contest.rival()), fused.dtype)
        items.append(Layered(contest=contest, layers=layers))
    return items


def training(device: torch.device) -> list[Layered]:
    """Forward and backward with the bias's gradient, against flex_attention with a captured bias."""
    size, items = Size.of(device), []
    for side, heads, layers in size.stages():
        fused, bias = size.inputs(side, heads)
        bias.requires_grad_()
        # Views of the fused projection, read in place; the gradients are three tensors of their own, as the rival's.
        leaves = [tensor.requires_grad_() for tensor in fused.unbind(3)]
        contest = Contest(
            case=f"{side}x{side}, {heads} heads",
            ours=_step(functools.partial(_attend, leaves, bias), [*leaves, bias]),
            rival=_training_rival(fused, bias),
        )
        items.append(Layered(contest=contest, layers=layers))
    return items


def _training_rival(fused: Tensor, bias: Tensor) -> Callable[[], object]:
    """In a rehearsal gathered neighbourhoods, since flex_attention has no backward pass on the CPU."""
    if fused.device.type == "cpu":
        query, key, value = (tensor.requires_grad_() for tensor in fused.unbind(3))
        return _step(lambda: gathered_attention(query, key, value, bias), [query, key, value, bias])
    rival = Flex(fused.shape[1], fused.device)
    leaves = [tensor.requires_grad_() for tensor in rival.heads_first(fused)]
    return _step(functools.partial(rival.attend, leaves, bias), [*leaves, bias])


class Flex:
    """PyTorch's flex_attention as neighborhood attention with a table of relative positions."""

    def __init__(self, side: int, device: torch.device) -> None:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        self.side = side
        self._attention: Callable[..., Any] = flex_attention
        if device.type == "cuda":
            self._attention = torch.compile(flex_attention, dynamic=False)

        def window(position: Tensor) -> Tensor:
            return (position - KERNEL // 2).clamp(0, side - KERNEL)

        def inside(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            rows = key // side - window(query // side)
            columns = key % side - window(query % side)
            return (rows >= 0) & (rows < KERNEL) & (columns >= 0) & (columns < KERNEL)

        self._mask = create_block_mask(inside, None, None, side**2, side**2, device=device)

    def attend(self, inputs: list[Tensor], bias: Tensor) -> Tensor:
        """[B, N, H * W, D]; `bias` is captured, so that its gradient is made where it wants one."""
        side = self.side
        query, key, value = inputs

        def add_bias(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            # Pairs outside the window are masked, but their entries must exist.
            row = (k // side - q // side + KERNEL - 1).clamp(0, 2 * KERNEL - 2)
            column = (k % side - q % side + KERNEL - 1).clamp(0, 2 * KERNEL - 2)
            return score + bias[head, row, column]

        return self._attention(query, key, value, score_mod=add_bias, block_mask=self._mask)

    def heads_first(self, fused: Tensor) -> list[Tensor]:
        """Contiguous [B, N, H * W, D] of each of the three; made before the timing."""
        return [tensor.flatten(1, 2).transpose(1, 2).contiguous() for tensor in fused.unbind(3)]

    def heads_last(self, output: Any) -> Tensor:
        """[B, H, W, N, D]."""
        return output.transpose(1, 2).unflatten(1, (self.side, self.side))


def _attend(inputs: Sequence[Tensor], bias: Tensor) -> Tensor:
    query, key, value = inputs
    return neighborhood_attention_2d(query, key, value, bias, kernel_size=KERNEL)


def _forward(fused: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    return _without_gradient(functools.partial(_attend, fused.unbind(3), bias))


def _without_gradient(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    @torch.no_grad()
    def run() -> Tensor:
        return function()

    return run


def _step(attend: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], object]:
    grad = torch.randn_like(attend().detach())
    return lambda: torch.autograd.grad(attend(), leaves, grad)


def _require_equal(ours: Tensor, rival: Tensor, dtype: torch.dtype) -> None:
    """A rival that computes something else is none."""
    difference = (ours.float() - rival.float()).abs().max() / ours.float().abs().max()
    if not difference <= 4 * torch.finfo(dtype).eps + 1e-5:
        raise ValueError(f"the rival's output differs by {difference:.1e} of the largest value")
