"""Both kernels behind one call, and an answer computed in another way, one query at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from segzoo import kernels
from segzoo.kernels import reference

BACKENDS = ("native", "reference")
Numbers = tuple[int, int, float]  # kernel size, dilation, scale


def require_native() -> None:
    """Skips where this machine cannot compile."""
    if kernels.load() != "native":
        pytest.skip(f"no compiled kernel here: {kernels.notes()}")


def run_forward(backend: str, q: Tensor, k: Tensor, v: Tensor, rpb: Tensor | None, *numbers: float) -> list[Tensor]:
    if backend == "native":
        require_native()
        return list(torch.ops.segzoo.neighborhood_attention_2d(q, k, v, rpb, *numbers))
    return list(reference.forward(q, k, v, rpb, *numbers))


def run_backward(
    backend: str, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, rpb: Tensor | None, *numbers: float
) -> list[Tensor]:
    """Gradients of q, k, v and rpb (empty without rpb)."""
    saved = run_forward(backend, q, k, v, rpb, *numbers)
    if backend == "native":
        return list(torch.ops.segzoo.neighborhood_attention_2d_backward(grad, q, k, v, rpb, *saved, *numbers))
    return list(reference.backward(grad, q, k, v, rpb, *saved, *numbers))


def random_inputs(
    batch: int, height: int, width: int, heads: int, head_dim: int, kernel: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v (views of a fused projection), rpb, and a gradient of the output."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    shape = (batch, height, width)
    fused = torch.randn(*shape, 3, heads, head_dim, generator=generator, dtype=torch.float64).to(dtype)
    rpb = torch.randn(heads, 2 * kernel - 1, 2 * kernel - 1, generator=generator, dtype=torch.float64).to(dtype)
    grad = torch.randn(*shape, heads, head_dim, generator=generator, dtype=torch.float64).to(dtype)
    q, k, v = fused.unbind(3)
    return q, k, v, rpb, grad


def window(position: int, length: int, kernel: int, dilation: int) -> list[int]:
    """The positions a query attends to on one axis: of its own class, the `kernel` nearest that form a run.

    Of all runs of `kernel` members of the class, the one whose middle is nearest to the query.
    """
    members = list(range(position % dilation, length, dilation))
    runs = [members[i : i + kernel] for i in range(len(members) - kernel + 1)]
    return min(runs, key=lambda run: abs(run[kernel // 2] - position))


def brute_force(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor | None, kernel: int, dilation: int, scale: float
) -> Tensor:
    """The output by the definition, in Python numbers."""
    output = torch.zeros_like(q)
    batch, height, width, heads, _ = q.shape
    for b, i, j, n in torch.cartesian_prod(*map(torch.arange, (batch, height, width, heads))).tolist():
        rows, columns = window(i, height, kernel, dilation), window(j, width, kernel, dilation)
        logits, values = [], []
        for row in rows:
            for column in columns:
                logit = scale * float(q[b, i, j, n] @ k[b, row, column, n])
                if rpb is not None:
                    offsets = (row - i) // dilation + kernel - 1, (column - j) // dilation + kernel - 1
                    logit += float(rpb[n][offsets])
                logits.append(logit)
                values.append(v[b, row, column, n])
        highest = max(logits)
        weights = [math.exp(logit - highest) for logit in logits]
        mixed = sum((w * value for w, value in zip(weights, values, strict=True)), torch.zeros_like(values[0]))
        output[b, i, j, n] = mixed / sum(weights)
    return output


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Largest difference as a share of the truth's largest value."""
    return ((value.double() - truth.double()).abs().max() / truth.double().abs().max()).item()
