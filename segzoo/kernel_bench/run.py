"""Measures the chosen claims of this machine's CPU and makes the record of it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from segzoo import kernels
from segzoo.errors import UnavailableError
from segzoo.kernel_bench import deformable, neighborhood, network, rivals, tail
from segzoo.kernel_bench.contest import FULL, LONG, QUICK, Contest, Effort, clock, run_contests
from segzoo.kernel_bench.record import COMMAND, Result, tables
from segzoo.kernel_bench.targets import Target, select
from segzoo.results import Run, Stopwatch, command_line, environment

_TIMED: dict[str, tuple[Callable[[], list[Contest]], Effort]] = {
    "neighborhood-forward": (neighborhood.forward_contests, FULL),
    "neighborhood-peak": (neighborhood.peak_contests, FULL),
    "neighborhood-training": (neighborhood.training_contests, LONG),
    "nat-tiny-backbone": (network.backbone_contests, LONG),
    "nat-tiny-bf16": (network.half_precision_contests, LONG),
    "deformable-forward": (deformable.forward_contests, LONG),
    "deformable-backward": (deformable.backward_contests, LONG),
    "tail-one-view": (tail.one_view_contests, LONG),
    "tail-twelve-views": (tail.twelve_views_contests, LONG),
}
_OTHER: dict[str, Callable[[], Result]] = {
    "neighborhood-memory": neighborhood.memory_result,
    "nat-tiny-bf16-labels": network.labels_result,
    "nat-pico-bf16-labels": network.trained_labels_result,
}
_PROBE_FLOPS = 2e9


def bench_run(
    rows: Sequence[str], *, threads: int = 1, quick: bool = False, tell: Callable[[str], None] = lambda line: None
) -> Run:
    """Measures the claims whose rows are named (all of the CPU where none is) in this process.

    Args:
        rows: names or globs.
        threads: of PyTorch and of the rivals. With one, times are the thread's processor time.
        quick: few rounds, for a look; the record says so and is partial.
        tell: gets a line before each row.

    Raises:
        UsageError: a row that does not exist.
        UnavailableError: no compiled kernels here.
    """
    watch = Stopwatch()
    chosen = select(rows, "cpu")
    if kernels.load() != "native":
        raise UnavailableError(f"nothing to measure without compiled kernels: {'; '.join(kernels.notes())}")
    with _threads(threads):
        machine = machine_speed()
        results = [_measured(item, quick, tell) for item in chosen]
        bounds = [_BOUNDS[item.target.row](item, machine) for item in results if item.target.row in _BOUNDS]
        return Run(
            command=COMMAND,
            metrics=machine,
            conditions=_conditions(threads, quick),
            breakdown=tables(results),
            notes=[*kernels.notes(), *bounds, *(note for result in results for note in result.notes)],
            environment=environment(),
            command_line=command_line(),
            started=watch.started,
            duration_s=watch.seconds,
            status="partial" if quick else "ok",
        )


def machine_speed() -> dict[str, float | int | None]:
    """What the machine can do at most, on PyTorch's number of threads: medians of a few tries."""
    now, copy = clock(), rivals.copy()

    def median_s(function: Callable[[], object]) -> float:
        times = []
        for _ in range(6):
            begin = now()
            function()
            times.append(now() - begin)
        return statistics.median(times[1:])

    arithmetic = rivals.multiply_add(_PROBE_FLOPS)
    return {
        "multiply_add_flops_per_second": _PROBE_FLOPS / median_s(arithmetic),
        "copy_bytes_per_second": copy.bytes_moved / median_s(copy.run),
    }


def _forward_bound(result: Result, machine: dict[str, float | int | None]) -> str:
    """How far the rival of neighborhood attention is from the peak, which no program of ours can pass."""
    peak = machine["multiply_add_flops_per_second"]
    assert peak is not None
    rival_s = sum(statistics.median(case.rival_ms) for case in result.samples) / 1e3
    bound = rival_s * peak / sum(stage.flops for stage in neighborhood.STAGES)
    return (
        f"{result.target.row}: the rival's products run at {100 / bound:.0f} % of the multiply-add peak, "
        f"so that a program at the peak would be {bound:.1f} x as fast as the rival"
    )


def _backbone_bound(result: Result, machine: dict[str, float | int | None]) -> str:
    """How much of the backbone is not the operator, which alone differs between the sides."""
    peak = machine["multiply_add_flops_per_second"]
    assert peak is not None
    (samples,) = result.samples
    rival_s = statistics.median(samples.rival_ms) / 1e3
    shared = network.shared_part()
    return (
        f"{result.target.row}: the layers that both sides share take {shared.seconds * 1e3:.0f} ms and would take "
        f"{shared.flops / peak * 1e3:.0f} ms at the multiply-add peak: an operator that took no time at all would "
        f"give {rival_s / shared.seconds:.1f} x"
    )


_BOUNDS: dict[str, Callable[[Result, dict[str, float | int | None]], str]] = {
    "neighborhood-forward": _forward_bound,
    "nat-tiny-backbone": _backbone_bound,
}


def _measured(item: Target, quick: bool, tell: Callable[[str], None]) -> Result:
    tell(f"{item.row}: {item.subject}")
    if item.row in _OTHER:
        return _OTHER[item.row]()
    contests, effort = _TIMED[item.row]
    return Result(target=item, samples=run_contests(contests(), QUICK if quick else effort))


def _conditions(threads: int, quick: bool) -> dict[str, object]:
    return {
        "device": "cpu",
        "threads": threads,
        "kernels": kernels.describe(),
        "rivals": rivals.variant(),
        "clock": "thread processor time" if clock() is time.thread_time else "wall",
        "quick": quick,
        "torch": str(torch.__version__),
    }


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
