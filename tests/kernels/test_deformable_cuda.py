"""The CUDA kernels of deformable attention, run in the emulator: the device code of csrc/ itself, without a GPU."""

from __future__ import annotations

import dataclasses
import struct

import emulated_cuda
import pytest
import torch
from torch import Tensor

from segzoo.kernels import deformable_reference as reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Of the largest value: rounding of float32 sums, and of results in half precision.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
NAMES = ("grad_value", "grad_locations", "grad_weights")


@dataclasses.dataclass(frozen=True)
class Problem:
    """Value, flat levels, locations, weights and the gradient of the output."""

    value: Tensor
    shapes: list[int]
    locations: Tensor
    weights: Tensor
    grad: Tensor

    @classmethod
    def random(
        cls,
        dtype: torch.dtype,
        *,
        dim: int,
        points: int = 3,
        heads: int = 2,
        queries: int = 19,
        shapes: tuple[int, ...] = (5, 7, 3, 2),
    ) -> Problem:
        """Two images; about a third of the points lie outside their level, and some half outside."""
        generator = torch.Generator().manual_seed(dim)

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        wide = torch.float64 if dtype == torch.float64 else torch.float32
        levels = len(shapes) // 2
        tokens = sum(shapes[2 * level] * shapes[2 * level + 1] for level in range(levels))
        return cls(
            (draw(2, tokens, heads, dim) - 0.5).to(dtype),
            list(shapes),
            (draw(2, queries, heads, levels, points, 2) * 1.6 - 0.3).to(wide),
            draw(2, queries, heads, levels, points).to(wide),
            (draw(2, queries, heads * dim) - 0.5).to(dtype),
        )

    @property
    def exact(self) -> tuple[Tensor, list[int], Tensor, Tensor]:
        return self.value.double(), self.shapes, self.locations.double(), self.weights.double()


def emulated(problem: Problem, *, backward: bool, deterministic: bool = False, seed: int = 1) -> list[Tensor]:
    """Output, or the three gradients, as the kernels compute them."""
    batch, queries, heads, levels, points, _ = problem.locations.shape
    words = [DTYPES.index(problem.value.dtype), backward, deterministic]
    words += [batch, queries, heads, problem.value.shape[-1], points, levels, *problem.shapes]
    tensors = [problem.value, problem.locations, problem.weights, *([problem.grad] if backward else [])]
    given = struct.pack(f"{len(words)}q", *words) + b"".join(map(raw_bytes, tensors))
    program = emulated_cuda.compiled("deformable_driver.cpp", "deformable_attention")
    result = emulated_cuda.run(program, seed=seed, given=given)
    assert result.returncode == 0, result.stderr.decode()
    wide = problem.locations
    likes = [wide.new_empty(problem.value.shape), wide, problem.weights] if backward else [problem.grad]
    results, place = [], 0
    for like in likes:
        size = like.numel() * like.element_size()
        part = bytearray(result.stdout[place : place + size])
        results.append(torch.frombuffer(part, dtype=like.dtype).view(like.shape) if size else like)
        place += size
    assert place == len(result.stdout)
    return results


def raw_bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def assert_near(measured: Tensor, exact: Tensor, tolerance: float) -> None:
    assert (measured.double() - exact).abs().max() <= tolerance * max(1e-3, float(exact.abs().max()))


# Vectors of every width, with idle lanes (24), and heads wider than a group (160); odd ones take the general path.
@pytest.mark.parametrize("dim", [8, 24, 32, 5, 160])
@pytest.mark.parametrize("dtype", DTYPES)
def test_output_and_gradients_are_those_of_the_reference(dtype: torch.dtype, dim: int) -> None:
    problem = Problem.random(dtype, dim=dim, queries=5 if dim == 160 else 19)
    assert_near(emulated(problem, backward=False)[0], reference.forward(*problem.exact), TOLERANCES[dtype])
    exact = reference.backward(problem.grad.double(), *problem.exact)
    # Gradients are summed and kept in float32 even where values are in half precision.
    tolerance = TOLERANCES[torch.float64 if dtype == torch.float64 else torch.float32] * 4
    for measured, truth in zip(emulated(problem, backward=True), exact, strict=True):
        assert_near(measured, truth, tolerance)


def test_many_points_and_four_levels() -> None:
    problem = Problem.random(torch.float32, dim=16, points=13, heads=3, shapes=(4, 9, 1, 1, 6, 5, 2, 8))
    assert_near(emulated(problem, backward=False)[0], reference.forward(*problem.exact), 4e-6)
    exact = reference.backward(problem.grad.double(), *problem.exact)
    for measured, truth in zip(emulated(problem, backward=True), exact, strict=True):
        assert_near(measured, truth, 8e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_deterministic_gradient_is_the_same_in_every_order_of_threads(dtype: torch.dtype) -> None:
    problem = Problem.random(dtype, dim=40, queries=23)
    first, second = (emulated(problem, backward=True, deterministic=True, seed=seed) for seed in (1, 2))
    for name, one, two in zip(NAMES, first, second, strict=True):
        assert torch.equal(one, two), name
    exact = reference.backward(problem.grad.double(), *problem.exact)
    for measured, truth in zip(first, exact, strict=True):
        assert_near(measured, truth, 8e-6)


def test_values_that_are_not_read_may_be_anything() -> None:
    problem = Problem.random(torch.float32, dim=8)
    spoilt = problem.value.clone()
    spoilt[:, 17] = torch.nan
    output = emulated(dataclasses.replace(problem, value=spoilt), backward=False)[0]
    truth = reference.forward(spoilt.double(), *problem.exact[1:])
    assert torch.equal(output.isnan(), truth.isnan())
    assert output.isnan().any() and not output.isnan().all()


def test_a_location_that_is_no_number_spoils_its_query_alone() -> None:
    problem = Problem.random(torch.float32, dim=8)
    problem.locations[1, 4, 1, 0, 2] = torch.tensor([0.5, torch.nan])
    output = emulated(problem, backward=False)[0].view(2, 19, 2, 8)
    assert output[1, 4, 1].isnan().all() and output.isnan().sum() == 8
    assert emulated(problem, backward=True)[2].isnan().sum() == 1


@pytest.mark.parametrize("queries", [0, 1])
def test_no_queries_and_one(queries: int) -> None:
    problem = Problem.random(torch.float16, dim=16, queries=queries)
    assert emulated(problem, backward=False)[0].shape == (2, queries, 32)
    gradients = emulated(problem, backward=True, deterministic=True)
    assert bool(gradients[0].any()) == bool(queries)
