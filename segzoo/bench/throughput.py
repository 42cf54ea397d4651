"""The batch with the highest rate: doubled until it gains nothing more; out of memory, the step is halved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segzoo.errors import SegzooError

GAIN = 1.02
"""Less than this factor over the best rate so far is no gain; two batches in a row without a gain end the search."""
LARGEST_BATCH = 1024
LONGEST_CALL_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One batch that was tried; the rate is None where the memory did not suffice."""

    batch_size: int
    images_per_second: float | None
    peak_memory_bytes: int | None = None


def best_batch(
    measure: Callable[[int], Trial],
    tell: Callable[[Trial], None],
    *,
    longest_call_s: float = LONGEST_CALL_S,
) -> Trial | None:
    """The trial with the highest rate; None where not even one image fits.

    Args:
        measure: times a batch; raises SegzooError where the memory does not suffice.
        tell: gets every trial as soon as it is done, so that a process that dies loses no others.
        longest_call_s: no batch is tried whose call would take longer, judged by the rate so far.
    """
    best: Trial | None = None
    best_rate = 0.0
    fitted, batch, idle = 0, 1, 0
    step: int | None = None  # None while doubling, a number after the first batch that did not fit
    while batch <= LARGEST_BATCH and batch <= longest_call_s * best_rate + (fitted == 0):
        trial = _tried(measure, batch)
        tell(trial)
        if trial.images_per_second is None:
            step = (batch - fitted) // 2
        else:
            fitted, step = batch, None if step is None else step // 2
            idle = 0 if trial.images_per_second > GAIN * best_rate else idle + 1
            if trial.images_per_second > best_rate:
                best, best_rate = trial, trial.images_per_second
        # An eighth of what fits is near enough to the limit.
        if fitted == 0 or idle == 2 or (step is not None and step < max(fitted // 8, 1)):
            break
        batch = fitted + (fitted if step is None else step)
    return best


def _tried(measure: Callable[[int], Trial], batch: int) -> Trial:
    try:
        return measure(batch)
    except SegzooError as error:
        if "memory" not in str(error) and "needs at least" not in str(error):
            raise
        return Trial(batch_size=batch, images_per_second=None)
