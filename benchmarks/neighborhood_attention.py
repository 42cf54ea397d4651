"""The compiled neighborhood attention against the gathering PyTorch reference, in one process, interleaved.

    python benchmarks/neighborhood_attention.py --threads 1

The four stages of NAT-Tiny at 512x512 (kernel 7, heads of 32, batch 1, float32, views of a fused
projection). The two kernels take turns and medians are compared. With one thread the clock is that thread's
processor time, so that other programs disturb it less; with more it is the wall. The last column is the
arithmetic rate of the products alone, 2 FLOP a multiply-add.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate

from segzoo import kernels
from segzoo.kernels import reference
from segzoo.kernels.neighborhood import backward_flops, forward_flops

STAGES = ((128, 2), (64, 4), (32, 8), (16, 16))  # side of the map, heads
HEAD_DIM, KERNEL = 32, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--dilated", action="store_true", help="the largest dilation of each stage, as in DiNAT")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if kernels.load() != "native":
        raise SystemExit(f"no compiled kernel: {kernels.notes()}")
    rows = [row for stage in STAGES for row in stage_rows(*stage, words.dilated, words.repetitions)]
    print(f"{kernels.describe()}, {words.threads} thread(s), torch {torch.__version__}")
    print(tabulate(rows, headers="keys", floatfmt=".2f"))


def stage_rows(side: int, heads: int, dilated: bool, repetitions: int) -> list[dict[str, str | int | float]]:
    """One row for forward, one for backward."""
    dilation = side // KERNEL if dilated else 1
    generator = torch.Generator().manual_seed(0)
    fused = torch.randn(1, side, side, 3, heads, HEAD_DIM, generator=generator)
    rpb = torch.randn(heads, 2 * KERNEL - 1, 2 * KERNEL - 1, generator=generator)
    grad = torch.randn(1, side, side, heads, HEAD_DIM, generator=generator)
    tensors, numbers = (*fused.unbind(3), rpb), (KERNEL, dilation, HEAD_DIM**-0.5)
    saved = reference.forward(*tensors, *numbers)
    operators = torch.ops.segzoo
    shape = grad.shape
    products = {
        "forward": forward_flops(shape, shape, shape, rpb.shape, KERNEL),
        "backward": backward_flops(shape, shape, shape, shape, rpb.shape, shape, shape[:-1], KERNEL),
    }
    pairs: dict[str, tuple[Callable, Callable]] = {
        "forward": (
            lambda: operators.neighborhood_attention_2d(*tensors, *numbers),
            lambda: reference.forward(*tensors, *numbers),
        ),
        "backward": (
            lambda: operators.neighborhood_attention_2d_backward(grad, *tensors, *saved, *numbers),
            lambda: reference.backward(grad, *tensors, *saved, *numbers),
        ),
    }
    rows: list[dict[str, str | int | float]] = []
    for name, pair in pairs.items():
        native_ms, reference_ms = interleaved(*pair, repetitions)
        rows.append(
            {
                "map": f"{side}x{side}",
                "heads": heads,
                "dilation": dilation,
                "pass": name,
                "native ms": native_ms,
                "reference ms": reference_ms,
                "ratio": reference_ms / native_ms,
                "native GFLOP/s": products[name] / native_ms / 1e6,
            }
        )
    return rows


def interleaved(first: Callable, second: Callable, repetitions: int) -> tuple[float, float]:
    """Median milliseconds of two functions that take turns, after one unmeasured turn each."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repetitions + 1):
        for function, taken in zip((first, second), times, strict=True):
            begin = clock()
            function()
            if turn:
                taken.append((clock() - begin) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
