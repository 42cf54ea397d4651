"""Correctness on a GPU, as rows of a record: every operator and dtype against float64, opcheck, determinism."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from segzoo.kernel_bench import cuda_deformable
from segzoo.kernels import check, check_deformable, check_tail
from segzoo.kernels.check import Finding


def rows(name: str, device: torch.device) -> list[dict[str, Any]]:
    """The comparisons of a part: part, case, result, error, tolerance, and whether it is within."""
    word = str(device)
    verify: dict[str, Callable[[], Iterator[Finding]]] = {
        "forward": lambda: check.verify_forward(word),
        "backward": lambda: check.verify_backward(word),
        "deformable forward": lambda: check_deformable.verify_forward(word),
        "deformable backward": lambda: check_deformable.verify_backward(word),
        "tail": lambda: check_tail.verify(word),
        "opcheck": lambda: _opchecks(device),
        "determinism": lambda: _determinism(device),
    }
    found = list(verify[name]())
    return [
        {
            "part": item.part,
            "case": item.case,
            "result": item.result,
            "error": item.error,
            "tolerance": item.tolerance,
            "within": item.within,
        }
        for item in found
    ]


def _opchecks(device: torch.device) -> Iterator[Finding]:
    operators = torch.ops.segzoo
    query, key, value, bias = (
        torch.randn(*shape, device=device, requires_grad=True)
        for shape in ((1, 9, 8, 2, 8), (1, 9, 8, 2, 8), (1, 9, 8, 2, 8), (2, 5, 5))
    )
    small = (torch.randn(1, 14, 2, 8, device=device, requires_grad=True), [3, 4, 1, 2])
    locations = torch.rand(1, 5, 2, 2, 3, 2, device=device, requires_grad=True)
    weights = torch.rand(1, 5, 2, 2, 3, device=device, requires_grad=True)
    sources = torch.arange(4, dtype=torch.int32, device=device)[:, None]
    share = torch.ones(4, 1, device=device)
    taps = [[sources], [share], [sources], [share]]
    target = torch.zeros(4, 4, dtype=torch.uint8, device=device)
    arguments: dict[str, tuple[Any, ...]] = {
        "neighborhood_attention_2d": (query, key, value, bias, 3, 2, 0.3),
        "deformable_attention": (*small, locations, weights),
        "segmentation_tail": ([torch.randn(5, 4, 4, device=device)], *taps, target, 5, 255),
    }
    for name, inputs in arguments.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # opcheck looks at .grad of tensors that are no leaves
            answers = torch.library.opcheck(getattr(operators, name), inputs, raise_exception=False)
        failed = [test for test, answer in answers.items() if answer != "SUCCESS"]
        yield Finding(part="opcheck", case=name, result=", ".join(failed) or "all", error=len(failed), tolerance=0)


def _determinism(device: torch.device) -> Iterator[Finding]:
    """Two runs give the same bits: attention's backward always, deformable attention's where it is asked to."""
    fused = torch.randn(2, 30, 33, 3, 2, 32, device=device, dtype=torch.bfloat16)
    bias, grad = torch.randn(2, 13, 13, device=device), torch.randn(2, 30, 33, 2, 32, device=device).bfloat16()
    operators = torch.ops.segzoo

    def attention() -> tuple[torch.Tensor, ...]:
        inputs = (*fused.unbind(3), bias)
        output, sums = operators.neighborhood_attention_2d(*inputs, 7, 1, 0.2)
        return operators.neighborhood_attention_2d_backward(grad, *inputs, output, sums, 7, 1, 0.2)

    inputs = cuda_deformable.problem(device, torch.float32)
    gradient = cuda_deformable.gradient(inputs)
    runs: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
        "neighborhood attention's backward": attention,
        "deformable attention's backward": lambda: operators.deformable_attention_backward(gradient, *inputs, True),
    }
    for name, run in runs.items():
        different = sum(not torch.equal(one, two) for one, two in zip(run(), run(), strict=True))
        yield Finding(part="determinism", case=name, result="bits of two runs", error=different, tolerance=0)
