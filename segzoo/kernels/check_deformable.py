"""Verifies deformable attention as it runs here against the float64 reference, as check.py does its neighbour."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from segzoo.kernels import deformable_reference as reference
from segzoo.kernels.check import Finding, cases_on, compare, floor_of, passed_or_not
from segzoo.kernels.deformable import deformable_attention

_GRADIENTS = ("grad_value", "grad_locations", "grad_weights")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One problem; about a third of its points lie outside their level."""

    batch: int
    queries: int
    heads: int
    head_dim: int
    points: int
    shapes: tuple[tuple[int, int], ...]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def flat(self) -> list[int]:
        """Height and width of each level, one after the other."""
        return [side for shape in self.shapes for side in shape]

    def __str__(self) -> str:
        levels = ", ".join(f"{height}x{width}" for height, width in self.shapes)
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{self.batch} x {self.queries} queries, {self.heads} heads of {self.head_dim}, "
            f"{self.points} points on {levels}, {dtype}"
        )


CASES = (
    Case(batch=1, queries=300, heads=8, head_dim=32, points=16, shapes=((20, 15), (20, 15), (20, 15))),
    Case(batch=2, queries=37, heads=3, head_dim=20, points=4, shapes=((9, 14), (5, 7), (2, 1))),
    Case(batch=1, queries=11, heads=2, head_dim=5, points=70, shapes=((1, 1), (13, 8))),
    Case(batch=2, queries=19, heads=4, head_dim=16, points=3, shapes=((6, 11),), dtype=torch.float64),
)


def verify_forward(device: str = "cpu") -> Iterator[Finding]:
    """Compares the output of every case."""
    for case in cases_on(device, CASES):
        yield from _findings("deformable forward", case, False, ("output",))


def verify_backward(device: str = "cpu") -> Iterator[Finding]:
    """Compares the three gradients of every case, then runs gradcheck in float64 on a small one."""
    for case in cases_on(device, CASES):
        yield from _findings("deformable backward", case, True, _GRADIENTS)
    yield _gradcheck(device)


def _findings(part: str, case: Case, backward: bool, names: tuple[str, ...]) -> Iterator[Finding]:
    exact, plain = (_results(case, dtype, True, backward) for dtype in (torch.float64, case.dtype))
    ours = _results(case, case.dtype, False, backward)
    for name, truth, value, rival in zip(names, exact, ours, plain, strict=True):
        yield compare(part, str(case), name, value, rival, truth, floor=floor_of(case.dtype, case.device))


def _inputs(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, locations, weights and the gradient of the output.

    Locations are kept off the pixels' centres, where the slope jumps and either side is right.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    tokens = sum(height * width for height, width in case.shapes)
    places = (case.batch, case.queries, case.heads, len(case.shapes), case.points)
    value = draw(case.batch, tokens, case.heads, case.head_dim) - 0.5
    sizes = torch.tensor([(width, height) for height, width in case.shapes], dtype=torch.float64)[:, None]
    cells = torch.floor(draw(*places, 2) * (1.4 * sizes + 2) - 0.2 * sizes - 1)
    locations = (cells + 0.5 + 0.1 + 0.8 * draw(*places, 2)) / sizes
    weights = draw(*places).flatten(3).softmax(-1).view(places)
    grad = draw(case.batch, case.queries, case.heads * case.head_dim) - 0.5
    # Rounded to the case's dtype first, so that every run sees the same numbers.
    wide = torch.promote_types(case.dtype, torch.float32)
    value, grad = (tensor.to(case.dtype).to(case.device, dtype) for tensor in (value, grad))
    computing = torch.promote_types(dtype, torch.float32)
    locations, weights = (tensor.to(wide).to(case.device, computing) for tensor in (locations, weights))
    return value, locations, weights, grad


def _results(case: Case, dtype: torch.dtype, use_reference: bool, backward: bool) -> list[Tensor]:
    value, locations, weights, grad = _inputs(case, dtype)
    operators = torch.ops.segzoo
    arguments = (value, case.flat, locations, weights)
    if backward:
        differentiate: Callable = reference.backward if use_reference else operators.deformable_attention_backward
        return list(differentiate(grad, *arguments))
    attend: Callable = reference.forward if use_reference else operators.deformable_attention
    return [attend(*arguments)]


def _gradcheck(device: str) -> Finding:
    """Finite differences in float64 on two levels of a few tokens."""
    small = Case(batch=1, queries=2, heads=2, head_dim=3, points=2, shapes=((3, 4), (2, 2)), dtype=torch.float64)
    case = dataclasses.replace(small, device=device)
    value, locations, weights, _ = _inputs(case, torch.float64)
    inputs = (value.requires_grad_(), locations.requires_grad_(), weights.requires_grad_())
    passed = torch.autograd.gradcheck(
        lambda *tensors: deformable_attention(tensors[0], case.shapes, tensors[1], tensors[2]),
        inputs,
        raise_exception=False,
        nondet_tol=1e-12,  # on CUDA the gradient of the values is summed in no fixed order
    )
    return passed_or_not("deformable backward", str(case), passed)
