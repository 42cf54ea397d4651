"""The CUDA kernels of neighborhood attention, run by the emulator, against the float64 reference.

The same device code that nvcc compiles. One program run is forward and backward of one problem.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import emulated_cuda
import pytest
import torch
from torch import Tensor

from segzoo.kernels import reference

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
NAMES = ("output", "logsumexp", "grad_q", "grad_k", "grad_v", "grad_rpb")
HOPPER_SHARED_BYTES = 227 * 1024
SMALLEST_SHARED_BYTES = 99 * 1024
"""What a block of the GPUs with least (compute capability 8.6, 8.9, 12.0) may have."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    height: int
    width: int
    kernel: int
    head_dim: int
    dtype: torch.dtype
    dilation: int = 1
    batch: int = 1
    heads: int = 1
    with_bias: bool = True
    scale: float = 0.3
    shared_bytes: int = HOPPER_SHARED_BYTES

    def inputs(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """A fused projection [B, H, W, 3, N, D], the gradient of the output, and the bias."""
        generator = torch.Generator().manual_seed(self.height * 100 + self.width)
        shape = (self.batch, self.height, self.width)
        fused = torch.randn(*shape, 3, self.heads, self.head_dim, generator=generator, dtype=torch.float64)
        gradient = torch.randn(*shape, self.heads, self.head_dim, generator=generator, dtype=torch.float64)
        table = 2 * self.kernel - 1
        bias = torch.randn(self.heads, table, table, generator=generator, dtype=torch.float64)
        sums = reference.compute_dtype(self.dtype)
        return fused.to(self.dtype), gradient.to(self.dtype), bias.to(sums) if self.with_bias else None


def raw(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.contiguous().view(torch.uint8).numpy().tobytes()


def answer_bytes(problem: Problem, fused: Tensor, gradient: Tensor, bias: Tensor | None, seed: int = 1) -> bytes:
    p = problem
    sizes = (DTYPES[p.dtype], p.batch, p.height, p.width, p.heads, p.head_dim, p.kernel, p.dilation)
    header = struct.pack("<10qd", *sizes, p.with_bias, p.shared_bytes, p.scale)
    program = emulated_cuda.compiled("neighborhood_driver.cpp", "neighborhood_attention")
    result = emulated_cuda.run(program, seed=seed, given=header + raw(fused) + raw(gradient) + raw(bias))
    if result.returncode:
        raise RuntimeError(result.stderr.decode()[:4000])
    return result.stdout


def emulated(problem: Problem, fused: Tensor, gradient: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """What the kernels answer, by name."""
    tokens = fused.shape[:3] + fused.shape[4:5]
    sums = reference.compute_dtype(problem.dtype)
    shapes = [gradient.shape, tokens, gradient.shape, gradient.shape, gradient.shape]
    shapes += [bias.shape if bias is not None else torch.Size([0])]
    dtypes = [problem.dtype, sums, problem.dtype, problem.dtype, problem.dtype, sums]
    answer = answer_bytes(problem, fused, gradient, bias)
    ends = [0]
    for shape, dtype in zip(shapes, dtypes, strict=True):
        ends.append(ends[-1] + shape.numel() * torch.finfo(dtype).bits // 8)
    assert ends[-1] == len(answer)
    pieces = [bytearray(answer[first:end]) for first, end in pairwise(ends)]
    return {
        name: torch.frombuffer(piece, dtype=dtype).reshape(shape) if piece else torch.empty(shape)
        for name, piece, dtype, shape in zip(NAMES, pieces, dtypes, shapes, strict=True)
    }


def by_reference(problem: Problem, dtype: torch.dtype, *inputs: Tensor | None) -> dict[str, Tensor]:
    fused, gradient, bias = (None if tensor is None else tensor.to(dtype) for tensor in inputs)
    assert fused is not None and gradient is not None
    if bias is not None:
        bias = bias.to(reference.compute_dtype(dtype))
    arguments = (*fused.unbind(3), bias)
    numbers = (problem.kernel, problem.dilation, problem.scale)
    saved = reference.forward(*arguments, *numbers)
    return dict(zip(NAMES, [*saved, *reference.backward(gradient, *arguments, *saved, *numbers)], strict=True))


def relative_error(value: Tensor, truth: Tensor) -> float:
    if not truth.numel():
        return 0.0
    largest = truth.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    return ((value.double() - truth).abs().max() / largest).item()


def tolerance(dtype: torch.dtype, rival: float) -> float:
    """How far from float64: as the reference of the same dtype, and a little more.

    Tensor cores take the weights in half precision, which the reference keeps in float32: the largest value
    may be wrong by one more unit in its last place. Elsewhere only the order of summation differs.
    """
    if dtype in (torch.float16, torch.bfloat16):
        return rival + torch.finfo(dtype).eps
    return 4 * rival + 16 * torch.finfo(dtype).eps


def check(problem: Problem) -> None:
    inputs = problem.inputs()
    truth = by_reference(problem, torch.float64, *inputs)
    same_precision = by_reference(problem, problem.dtype, *inputs)
    for name, result in emulated(problem, *inputs).items():
        rival = relative_error(same_precision[name], truth[name])
        assert relative_error(result, truth[name]) <= tolerance(result.dtype, rival), name


HALF, BFLOAT16, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64
TENSOR_CORES = [
    Problem(height=8, width=8, kernel=7, head_dim=32, dtype=BFLOAT16),
    Problem(height=13, width=18, kernel=7, head_dim=32, dtype=BFLOAT16, batch=2, heads=2),
    Problem(height=7, width=9, kernel=7, head_dim=32, dtype=BFLOAT16, with_bias=False),
    Problem(height=15, width=17, kernel=7, head_dim=32, dtype=BFLOAT16, dilation=2),
    Problem(height=6, width=11, kernel=3, head_dim=16, dtype=HALF, heads=3),
    Problem(height=9, width=11, kernel=3, head_dim=16, dtype=HALF, dilation=3, batch=2),
    Problem(height=5, width=13, kernel=5, head_dim=64, dtype=BFLOAT16),
    Problem(height=9, width=14, kernel=9, head_dim=32, dtype=BFLOAT16),
    Problem(height=12, width=11, kernel=11, head_dim=16, dtype=HALF),
    Problem(height=13, width=14, kernel=13, head_dim=16, dtype=HALF),
    Problem(height=7, width=8, kernel=7, head_dim=128, dtype=HALF),
    Problem(height=8, width=7, kernel=5, head_dim=24, dtype=BFLOAT16),
    Problem(height=5, width=7, kernel=3, head_dim=40, dtype=BFLOAT16, scale=-0.2),
    Problem(height=6, width=5, kernel=5, head_dim=8, dtype=HALF, scale=0.0),
]
PLAIN = [
    Problem(height=7, width=8, kernel=7, head_dim=32, dtype=SINGLE),
    Problem(height=6, width=10, kernel=3, head_dim=32, dtype=SINGLE, heads=2, batch=2),
    Problem(height=7, width=9, kernel=3, head_dim=20, dtype=SINGLE, dilation=2, with_bias=False),
    Problem(height=6, width=5, kernel=5, head_dim=13, dtype=SINGLE, scale=-0.4),
    Problem(height=13, width=13, kernel=13, head_dim=4, dtype=SINGLE),
    Problem(height=4, width=5, kernel=3, head_dim=40, dtype=SINGLE, batch=2),
    Problem(height=4, width=5, kernel=3, head_dim=70, dtype=DOUBLE, heads=2),
]


def name_of(problem: Problem) -> str:
    p = problem
    dtype = str(p.dtype).removeprefix("torch.")
    return f"{p.batch}x{p.height}x{p.width}x{p.heads}x{p.head_dim} k{p.kernel} d{p.dilation} {dtype}"


@pytest.mark.parametrize("problem", TENSOR_CORES, ids=name_of)
def test_tensor_core_kernels_are_as_exact_as_their_precision(problem: Problem) -> None:
    check(problem)


@pytest.mark.parametrize("problem", PLAIN, ids=name_of)
def test_plain_kernels_are_as_exact_as_the_reference(problem: Problem) -> None:
    check(problem)


@pytest.mark.parametrize("problem", [TENSOR_CORES[1], PLAIN[1]], ids=name_of)
def test_the_order_in_which_threads_run_does_not_change_a_bit(problem: Problem) -> None:
    inputs = problem.inputs()
    assert answer_bytes(problem, *inputs, seed=2) == answer_bytes(problem, *inputs, seed=3)


def test_gpus_with_little_shared_memory_get_smaller_tiles() -> None:
    check(Problem(height=9, width=9, kernel=9, head_dim=128, dtype=HALF, shared_bytes=SMALLEST_SHARED_BYTES))


def test_what_does_not_fit_into_shared_memory_is_refused() -> None:
    problem = Problem(height=13, width=13, kernel=13, head_dim=128, dtype=HALF, shared_bytes=SMALLEST_SHARED_BYTES)
    with pytest.raises(RuntimeError, match="more shared memory than this GPU has"):
        answer_bytes(problem, *problem.inputs())
