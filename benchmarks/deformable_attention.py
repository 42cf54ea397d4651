"""The compiled deformable attention against PyTorch's grid_sample, in one process, interleaved.

    python benchmarks/deformable_attention.py --threads 1

The encoder's and the decoder's attention of UN-EPT at 480x480 (three levels of 60x60 tokens, 8 heads of 32,
16 points, batch 1, float32), offsets spread over a few tokens. The two kernels take turns and medians are
compared. With one thread the clock is that thread's processor time, so that other programs disturb it less;
with more it is the wall. The last column is the arithmetic rate, 2 FLOP a multiply-add, forward.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate

from segzoo import kernels
from segzoo.kernels import deformable_reference as reference
from segzoo.kernels.deformable import forward_flops

SIDE, LEVELS, HEADS, HEAD_DIM, POINTS = 60, 3, 8, 32, 16
SPREAD = 6.0  # standard deviation of the offsets in tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if kernels.load() != "native":
        raise SystemExit(f"no compiled kernel: {kernels.notes()}")
    parts = (("encoder", LEVELS * SIDE**2), ("decoder", SIDE**2))
    rows = [row for name, queries in parts for row in rows_of(name, queries, words.repetitions)]
    print(f"{kernels.describe()}, {words.threads} thread(s), torch {torch.__version__}")
    print(tabulate(rows, headers="keys", floatfmt=".2f"))


def rows_of(name: str, queries: int, repetitions: int) -> list[dict[str, str | int | float | None]]:
    """One row for forward, one for backward."""
    generator = torch.Generator().manual_seed(0)
    shapes = [SIDE, SIDE] * LEVELS
    value = torch.randn(1, LEVELS * SIDE**2, HEADS, HEAD_DIM, generator=generator)
    centres = (torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).flip(-1) + 0.5) / SIDE
    centres = centres.repeat(queries // SIDE**2, 1)[None, :, None, None, None]
    places = (1, queries, HEADS, LEVELS, POINTS)
    locations = centres + torch.randn(*places, 2, generator=generator) * SPREAD / SIDE
    weights = torch.randn(places, generator=generator).flatten(3).softmax(-1).view(places)
    grad = torch.randn(1, queries, HEADS * HEAD_DIM, generator=generator)
    operators, arguments = torch.ops.segzoo, (value, shapes, locations, weights)
    pairs: dict[str, tuple[Callable, Callable]] = {
        "forward": (lambda: operators.deformable_attention(*arguments), lambda: reference.forward(*arguments)),
        "backward": (
            lambda: operators.deformable_attention_backward(grad, *arguments),
            lambda: reference.backward(grad, *arguments),
        ),
    }
    flops = forward_flops(value.shape, shapes, locations.shape, weights.shape)
    rows: list[dict[str, str | int | float | None]] = []
    for part, pair in pairs.items():
        native_ms, reference_ms = interleaved(*pair, repetitions)
        rows.append(
            {
                "attention": name,
                "queries": queries,
                "pass": part,
                "native ms": native_ms,
                "reference ms": reference_ms,
                "ratio": reference_ms / native_ms,
                "native GFLOP/s": flops / native_ms / 1e6 if part == "forward" else None,
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
