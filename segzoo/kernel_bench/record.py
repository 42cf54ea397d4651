"""The record of a kernel benchmark: what `segzoo kernel bench` and benchmarks/gpu.sh write, docs/benchmarks.md reads.

A Run of the command "kernel bench" whose breakdown has three tables:

- "claim": a row for each target (targets.py) that was measured: row, device, subject, rival, unit, goal, stretch,
  measured, low, high (95 % interval, None for what is no time) and verdict ("stretch", "goal" or "missed").
- "case": the medians of each case: row, case, ours_ms, rival_ms, ratio, low, high.
- "sample": all that was timed, in its order: row, case, round, ours_ms, rival_ms.

A claim of several cases is about the sum of their times. Its conditions name device, threads and kernel; its
metrics the machine's own speed in that run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segzoo.kernel_bench.targets import Target
from segzoo.report.noise import ratio_interval

COMMAND = "kernel bench"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Milliseconds of a call of either side, round by round."""

    case: str
    ours_ms: list[float]
    rival_ms: list[float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one target.

    Attributes:
        target: the claim.
        samples: one of each case; empty for what is no time.
        value: the measured figure of what is no time, in the target's unit.
        values: rows of the table "case" for what is no time.
        notes: what a reader must know.
    """

    target: Target
    samples: Sequence[Samples] = ()
    value: float | None = None
    values: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = ()


def tables(results: Sequence[Result]) -> dict[str, list[dict[str, Any]]]:
    """The record's breakdown."""
    return {
        "claim": [_claim(result) for result in results],
        "case": [row for result in results for row in _cases(result)],
        "sample": [row for result in results for samples in result.samples for row in _rows(result.target, samples)],
    }


def verdict(target: Target, measured: float) -> str:
    """ "stretch", "goal" or "missed"."""
    if target.stretch is not None and measured >= target.stretch:
        return "stretch"
    return "goal" if measured >= target.goal else "missed"


def _claim(result: Result) -> dict[str, Any]:
    target, low, high = result.target, None, None
    if result.samples:
        measured, low, high = ratio(*_total(result.samples), percent=target.unit == "%")
    else:
        assert result.value is not None, f"{target.row} was not measured"
        measured = result.value
    return {
        "row": target.row,
        "device": target.device,
        "subject": target.subject,
        "rival": target.rival,
        "unit": target.unit,
        "goal": target.goal,
        "stretch": target.stretch,
        "measured": measured,
        "low": low,
        "high": high,
        "verdict": verdict(target, measured),
    }


def _total(samples: Sequence[Samples]) -> tuple[list[float], list[float]]:
    """Ours and the rival's sums over all cases, round by round."""
    ours = [sum(times) for times in zip(*(case.ours_ms for case in samples), strict=True)]
    rival = [sum(times) for times in zip(*(case.rival_ms for case in samples), strict=True)]
    return ours, rival


def ratio(ours_ms: list[float], rival_ms: list[float], *, percent: bool = False) -> tuple[float, float, float]:
    """Median of the rival's times over median of ours, and its 95 % interval; in percent where asked for."""
    factor = 100.0 if percent else 1.0
    before, after = ([{"latency_ms": time} for time in times] for times in (ours_ms, rival_ms))
    low, high = ratio_interval(before, after)
    return factor * statistics.median(rival_ms) / statistics.median(ours_ms), factor * low, factor * high


def _cases(result: Result) -> list[dict[str, Any]]:
    rows = [{"row": result.target.row, **row} for row in result.values]
    for samples in result.samples:
        measured, low, high = ratio(samples.ours_ms, samples.rival_ms, percent=result.target.unit == "%")
        rows.append(
            {
                "row": result.target.row,
                "case": samples.case,
                "ours_ms": statistics.median(samples.ours_ms),
                "rival_ms": statistics.median(samples.rival_ms),
                "ratio": measured,
                "low": low,
                "high": high,
            }
        )
    return rows


def _rows(target: Target, samples: Samples) -> list[dict[str, Any]]:
    return [
        {"row": target.row, "case": samples.case, "round": number, "ours_ms": ours, "rival_ms": rival}
        for number, (ours, rival) in enumerate(zip(samples.ours_ms, samples.rival_ms, strict=True))
    ]
