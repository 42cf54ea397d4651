"""How much memory a function needs at its peak beyond what the process held before."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from segzoo.profiling.memory import PeakMemory, hand_back_freed, resident_bytes


def peak_bytes(function: Callable[[], object]) -> int:
    """The highest resident memory during a second call, less that before it; the first call is for one-time needs.

    What the allocator keeps of freed memory is handed back first, or the call would find it there for nothing.
    """
    function()
    gc.collect()
    hand_back_freed()
    before = resident_bytes()
    peak = PeakMemory(torch.device("cpu"))
    kept = function()  # results count as well
    highest = peak.read()
    del kept
    return highest - before
