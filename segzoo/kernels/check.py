"""Verifies neighborhood attention as it runs here against the float64 reference, forward and backward.

The tolerance comes from the data: the kernel's error may be a few times the error that the reference
itself makes in the same precision on the same inputs, no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from segzoo.kernels import reference
from segzoo.kernels.neighborhood import neighborhood_attention_2d

_FACTOR = 4.0  # another order of summation is as good; a wrong term is far beyond
_FLOOR = 64 * torch.finfo(torch.float64).eps  # in float64 the reference is the truth itself, with error 0
AnyCase = TypeVar("AnyCase", bound=Any)
_GRADIENTS = ("grad_q", "grad_k", "grad_v", "grad_rpb")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One problem: a batch of `batch` maps of height x width tokens, with strided inputs."""

    batch: int
    height: int
    width: int
    heads: int
    head_dim: int
    kernel_size: int
    dilation: int = 1
    with_bias: bool = True
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __str__(self) -> str:
        bias = "" if self.with_bias else ", no bias"
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{self.batch}x{self.height}x{self.width}, {self.heads} heads of {self.head_dim}, "
            f"kernel {self.kernel_size}, dilation {self.dilation}, {dtype}{bias}"
        )


CASES = (
    Case(batch=2, height=19, width=37, heads=3, head_dim=32, kernel_size=7),
    Case(batch=1, height=33, width=29, heads=2, head_dim=32, kernel_size=7, dilation=4),
    Case(batch=1, height=7, width=40, heads=1, head_dim=20, kernel_size=7, with_bias=False),
    Case(batch=1, height=11, width=17, heads=2, head_dim=24, kernel_size=3, dilation=3),
    Case(batch=1, height=26, width=31, heads=1, head_dim=64, kernel_size=13, dilation=2),
    Case(batch=1, height=12, width=18, heads=2, head_dim=16, kernel_size=5, dtype=torch.float64),
    Case(batch=1, height=16, width=21, heads=2, head_dim=32, kernel_size=7, dtype=torch.bfloat16),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The error of one result against float64, relative to the largest value, and its tolerance."""

    part: str
    case: str
    result: str
    error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """False also for NaN."""
        return self.error <= self.tolerance


DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What is checked on CUDA, where each has kernels of its own."""


def cases_on(device: str, known: tuple[AnyCase, ...]) -> tuple[AnyCase, ...]:
    """The cases (frozen dataclasses with dtype and device) as they are for the CPU; in every dtype elsewhere."""
    if device == "cpu":
        return known
    plain = dict.fromkeys(dataclasses.replace(case, dtype=torch.float32, device=device) for case in known)
    return tuple(dataclasses.replace(case, dtype=dtype) for dtype in DTYPES for case in plain)


def verify_forward(device: str = "cpu") -> Iterator[Finding]:
    """Compares the output of every case."""
    for case in cases_on(device, CASES):
        exact = _results(case, torch.float64, use_reference=True, backward=False)
        yield from _findings("forward", case, exact, ("output",))


def verify_backward(device: str = "cpu") -> Iterator[Finding]:
    """Compares the four gradients of every case, then runs gradcheck in float64 on a small one."""
    for case in cases_on(device, CASES):
        exact = _results(case, torch.float64, use_reference=True, backward=True)
        names = _GRADIENTS if case.with_bias else _GRADIENTS[:3]
        yield from _findings("backward", case, exact, names)
    yield _gradcheck(device)


def _findings(part: str, case: Case, exact: list[Tensor], names: tuple[str, ...]) -> Iterator[Finding]:
    backward = part == "backward"
    ours = _results(case, case.dtype, use_reference=False, backward=backward)
    plain = _results(case, case.dtype, use_reference=True, backward=backward)
    for name, truth, value, rival in zip(names, exact, ours, plain, strict=True):
        yield compare(part, str(case), name, value, rival, truth, floor=floor_of(case.dtype, case.device))


def floor_of(dtype: torch.dtype, device: str) -> float:
    """The error that is always allowed, of the largest value.

    On tensor cores half-precision kernels round what they multiply, where the reference has float32 copies.
    """
    rounds = device != "cpu" and dtype in (torch.bfloat16, torch.float16)
    return 2 * torch.finfo(dtype).eps if rounds else _FLOOR


def compare(
    part: str, case: str, result: str, value: Tensor, rival: Tensor, truth: Tensor, *, floor: float = _FLOOR
) -> Finding:
    """The error of `value` against float64's `truth`, held to that of the reference, `rival`."""
    tolerance = max(_FACTOR * _relative_error(rival, truth), floor)
    return Finding(part=part, case=case, result=result, error=_relative_error(value, truth), tolerance=tolerance)


def passed_or_not(part: str, case: str, passed: bool) -> Finding:
    """Finite differences as a finding: error 0 or infinite."""
    error = 0.0 if passed else float("inf")
    return Finding(part=part, case=f"gradcheck, {case}", result="finite differences", error=error, tolerance=0.0)


def _relative_error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth).abs().max() / truth.abs().max()).item()


def _inputs(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """A fused projection [B, H, W, 3, N, D], the gradient of the output, and the bias table."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, case.height, case.width)
    qkv = torch.randn(*shape, 3, case.heads, case.head_dim, generator=generator, dtype=torch.float64)
    grad = torch.randn(*shape, case.heads, case.head_dim, generator=generator, dtype=torch.float64)
    table = 2 * case.kernel_size - 1
    bias = torch.randn(case.heads, table, table, generator=generator, dtype=torch.float64)
    # rounded to the case's dtype first, so that every run sees the same numbers
    values = [tensor.to(case.dtype).to(case.device, dtype) for tensor in (qkv, grad, bias)]
    return values[0], values[1], values[2] if case.with_bias else None


def _results(case: Case, dtype: torch.dtype, *, use_reference: bool, backward: bool) -> list[Tensor]:
    qkv, grad, bias = _inputs(case, dtype)
    wide_bias = None if bias is None else bias.to(reference.compute_dtype(dtype))
    numbers = (case.kernel_size, case.dilation, case.head_dim**-0.5)
    tensors = (*qkv.unbind(3), wide_bias)
    ops = torch.ops.segzoo
    attend: Callable = reference.forward if use_reference else ops.neighborhood_attention_2d
    output, logsumexp = attend(*tensors, *numbers)
    if not backward:
        return [output]
    differentiate: Callable = reference.backward if use_reference else ops.neighborhood_attention_2d_backward
    gradients = differentiate(grad, *tensors, output, logsumexp, *numbers)
    return list(gradients if case.with_bias else gradients[:3])


def _gradcheck(device: str) -> Finding:
    """Finite differences in float64 on a 6x8 map, kernel 3, dilation 2."""
    small = Case(batch=1, height=6, width=8, heads=2, head_dim=3, kernel_size=3, dilation=2, dtype=torch.float64)
    case = dataclasses.replace(small, device=device)
    qkv, _, bias = _inputs(case, torch.float64)
    assert bias is not None

    def attend(fused: Tensor, table: Tensor) -> Tensor:
        q, k, v = fused.unbind(3)
        return neighborhood_attention_2d(q, k, v, table, kernel_size=3, dilation=2)

    inputs = (qkv.requires_grad_(), bias.requires_grad_())
    passed = torch.autograd.gradcheck(attend, inputs, raise_exception=False)
    return passed_or_not("backward", str(case), passed)
