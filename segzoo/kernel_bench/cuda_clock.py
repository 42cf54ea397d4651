"""Times of a GPU by its own events, every call after the cache was flushed; in rehearsals on the CPU by the wall."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from segzoo.kernel_bench.contest import Contest
from segzoo.kernel_bench.record import Samples

_COPIED_BYTES = 2**30
_FLUSHED_BYTES = 256 * 2**20  # more than any GPU's L2
# About a millisecond: meanwhile the host launches all kernels of a short call, which the GPU would else wait for.
_FLUSHES = 16


@dataclass(frozen=True, kw_only=True)
class Layered:
    """A contest whose times stand for several layers of one shape."""

    contest: Contest
    layers: int = 1


class DeviceClock:
    """Takes the time of single calls on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._flush = torch.empty(_FLUSHED_BYTES if device.type == "cuda" else 0, dtype=torch.uint8, device=device)

    def milliseconds(self, function: Callable[[], object]) -> float:
        """Of one call, with a cold L2."""
        if self.device.type != "cuda":
            begin = time.perf_counter()
            function()
            return 1e3 * (time.perf_counter() - begin)
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        for _ in range(_FLUSHES):
            self._flush.zero_()
        events[0].record()
        function()
        events[1].record()
        events[1].synchronize()
        return events[0].elapsed_time(events[1])

    def take_turns(self, items: Sequence[Layered], rounds: int) -> list[Samples]:
        """Lets both sides of each contest take turns, A B A B ...; three turns before do not count."""
        return [self._turns(item, rounds) for item in items]

    def _turns(self, item: Layered, rounds: int) -> Samples:
        contest = item.contest
        for _ in range(3 if rounds > 3 else 1):
            contest.ours(), contest.rival()
        ours, rival = [], []
        for _ in range(rounds):
            ours.append(item.layers * self.milliseconds(contest.ours))
            rival.append(item.layers * self.milliseconds(contest.rival))
        case = contest.case if item.layers == 1 else f"{contest.case}, {item.layers} layers"
        return Samples(case=case, ours_ms=ours, rival_ms=rival)

    def copy_bytes_per_second(self, count: int = _COPIED_BYTES) -> float:
        """Read and written together, by PyTorch's copy on the device; the median of nine."""
        source = torch.ones(count if self.device.type == "cuda" else count // 16, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        target.copy_(source)
        times = sorted(self.milliseconds(lambda: target.copy_(source)) for _ in range(9))
        return 2e3 * source.numel() / times[4]
