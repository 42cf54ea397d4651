"""How a run ends before its time: SIGTERM and Ctrl-C as a wish that the loop grants between two iterations, and errors
that all processes of a run have in common. No torch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from segzoo.errors import SegzooError


class InterruptedRunError(SegzooError):
    """The run was told to end and has written its checkpoint; `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class NotFiniteError(SegzooError):
    """Loss or gradient is no number, in one process or another: all of them end with it."""


class PeerLostError(SegzooError):
    """Another process of the run has ended, and has said why."""


@dataclass
class StopWish:
    """The signal that asked for an end, or 0."""

    signal_number: int = 0


@contextmanager
def stop_wish() -> Iterator[StopWish]:
    """While the body runs, SIGTERM and SIGINT are noted here; the second one ends the process at once."""
    wish = StopWish()

    def note(number: int, frame: object) -> None:
        wish.signal_number = number
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, before[again])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
