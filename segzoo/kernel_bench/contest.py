"""Two functions that take turns on one machine, and how sure the ratio of their times is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from segzoo.kernel_bench.record import Samples

TURN_S = 0.02
"""A turn repeats a short function until it has taken about this long."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One case of a claim.

    Attributes:
        case: what tells it from the row's other cases.
        ours: does the work once.
        rival: does the same work in the other way.
    """

    case: str
    ours: Callable[[], object]
    rival: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: turns of each contestant that count; one more comes before them and does not.
        turn_s: least length of a turn in seconds.
    """

    rounds: int
    turn_s: float = TURN_S


FULL = Effort(rounds=11)
LONG = Effort(rounds=7)
"""For calls that take seconds."""
QUICK = Effort(rounds=3, turn_s=0.005)


def clock() -> Callable[[], float]:
    """Processor time of this thread where PyTorch has one, which other programs disturb less; else the wall's."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def run_contest(contest: Contest, effort: Effort) -> Samples:
    """Lets the two take turns, A B A B ..., and returns the milliseconds of a call in every turn."""
    turns = [_Turn(function, effort.turn_s) for function in (contest.ours, contest.rival)]
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(effort.rounds):
        for turn, times in zip(turns, taken, strict=True):
            times.append(turn.take())
    return Samples(case=contest.case, ours_ms=taken[0], rival_ms=taken[1])


def run_contests(contests: Sequence[Contest], effort: Effort) -> list[Samples]:
    """The samples of every case, one case after the other."""
    return [run_contest(contest, effort) for contest in contests]


class _Turn:
    """A function with the number of calls that fill a turn, found in a first turn that does not count."""

    def __init__(self, function: Callable[[], object], seconds: float) -> None:
        self.function = function
        function()
        now = clock()
        begin = now()
        function()
        self.calls = max(1, round(seconds / max(now() - begin, 1e-9)))

    def take(self) -> float:
        """Milliseconds of a call."""
        now = clock()
        begin = now()
        for _ in range(self.calls):
            self.function()
        return 1e3 * (now() - begin) / self.calls
