"""What is measured on CUDA without a claim: times of further operators, and throughput of nat-tiny as a whole."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.device import precision
from segzoo.kernel_bench import cuda_deformable, tail
from segzoo.kernel_bench.cuda_clock import DeviceClock
from segzoo.registry import create_model

Figures = list[dict[str, Any]]


def operator_times(device: torch.device, rounds: int) -> Figures:
    """Deformable attention with half-precision values and in a fixed order, and the evaluation tail."""
    clock = DeviceClock(device)
    found = [
        _figure(name, clock, call, rounds)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
        for name, call in _deformable_calls(device, dtype).items()
    ]
    # Twelve views take a rehearsal on the CPU too long.
    several = tail.twelve_views_contests(device) if device.type == "cuda" else []
    for contest in [*tail.one_view_contests(device), *several]:
        found.append(_figure(f"tail, {contest.case}", clock, contest.ours, rounds))
        found.append(_figure(f"tail, {contest.case}, the published steps", clock, contest.rival, rounds))
    return found


def _deformable_calls(device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    inputs = cuda_deformable.problem(device, dtype)
    grad, word = cuda_deformable.gradient(inputs), str(dtype).removeprefix("torch.")
    forward, backward = torch.ops.segzoo.deformable_attention, torch.ops.segzoo.deformable_attention_backward
    return {
        f"deformable forward, {word}": functools.partial(forward, *inputs),
        f"deformable backward, {word}": functools.partial(backward, grad, *inputs, False),
        f"deformable backward, {word}, deterministic": functools.partial(backward, grad, *inputs, True),
    }


def _figure(name: str, clock: DeviceClock, call: Callable[[], object], rounds: int) -> dict[str, Any]:
    call()
    times = [clock.milliseconds(call) for _ in range(rounds)]
    return {"figure": name, "ms": statistics.median(times), "images_per_second": None}


def evaluation(device: torch.device, rounds: int) -> Figures:
    """Images a second of nat-tiny's forward pass, 512x512."""
    model, image, _ = _network(device)
    model.eval()

    @torch.inference_mode()
    def run() -> object:
        with precision(device, "bf16"):
            return model(image)

    return [_throughput("nat-tiny, forward, bf16", device, run, len(image), rounds)]


def training_step(device: torch.device, rounds: int) -> Figures:
    """Images a second of forward, backward and an AdamW step of nat-tiny, 512x512."""
    model, image, label = _network(device)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-5)

    def run() -> object:
        with precision(device, "bf16"):
            outputs = [value for value in model.forward_outputs(image).values() if isinstance(value, Tensor)]
        full = [F.interpolate(value.float(), label.shape[1:], mode="bilinear") for value in outputs]
        loss = torch.stack([F.cross_entropy(logits, label) for logits in full]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return [_throughput("nat-tiny, training step, bf16", device, run, len(image), rounds)]


def _network(device: torch.device) -> tuple[Any, Tensor, Tensor]:
    large = device.type == "cuda"
    torch.manual_seed(0)
    model: nn.Module = create_model("nat-tiny" if large else "nat-pico", device=str(device))
    shape = (16, 512, 512) if large else (2, 64, 64)
    image = torch.randn(shape[0], 3, *shape[1:], device=device)
    return model, image, torch.randint(0, 14, shape, device=device)


def _throughput(name: str, device: torch.device, run: Callable[[], object], images: int, rounds: int) -> dict[str, Any]:
    clock = DeviceClock(device)
    for _ in range(3):
        run()
    milliseconds = statistics.median(clock.milliseconds(run) for _ in range(rounds))
    return {
        "figure": f"{name}, batch {images}" + ("" if device.type == "cuda" else " (rehearsed: nat-pico, 64x64)"),
        "ms": milliseconds,
        "images_per_second": 1e3 * images / milliseconds,
    }
