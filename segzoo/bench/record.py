"""The rounds of a cell -> its Run."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from segzoo.bench.jobs import Outcome
from segzoo.bench.machine import BUSY_PERCENT
from segzoo.bench.plan import YARDSTICK, Cell
from segzoo.results import Run, command_line, environment

YARDSTICK_WORDS = "ResNet-50 of timm, 224x224, batch 1, fp32, same device and threads, same round"


def bench_run(
    cell: Cell,
    rounds: list[Outcome],
    yardsticks: list[Outcome],
    *,
    started: str,
    seconds: float,
    timeout_s: float,
) -> Run:
    """One record of all rounds of a cell.

    Args:
        cell: what was measured.
        rounds: its outcomes, in order.
        yardsticks: those of the yardstick in the same rounds; [] where there was none.
        started: when the first round began, ISO 8601.
        seconds: of all rounds together.
        timeout_s: the longest time that a process was given.
    """
    timings = [item.latency for item in rounds if item.latency is not None]
    static = next((item.static for item in rounds if item.static), None) or {}
    errors = list(dict.fromkeys(item.error for item in rounds if item.error))
    return Run(
        command="bench",
        model={"name": cell.model, "params": static.get("params"), "weights": "random"},
        metrics={**_static_metrics(static), **_timing_metrics(cell, rounds, yardsticks), **_batch_metrics(rounds)},
        conditions={**_conditions(cell, rounds, timings), "timeout_s": timeout_s},
        breakdown=_breakdown(rounds, yardsticks),
        notes=_notes(timings, rounds, errors),
        environment=environment(timings[0]["device_name"] if timings else None),
        command_line=command_line(),
        started=started,
        duration_s=seconds,
        status="ok" if timings else "failed",
        error=None if timings else "; ".join(errors),
    )


def _static_metrics(static: dict[str, Any]) -> dict[str, Any]:
    return {key: static[key] for key in ("params", "macs", "flops", "network_inputs") if key in static}


def _timing_metrics(cell: Cell, rounds: list[Outcome], yardsticks: list[Outcome]) -> dict[str, Any]:
    timings = [item.latency for item in rounds if item.latency is not None]
    if not timings:
        return {}
    samples = np.concatenate([timing["samples_ms"] for timing in timings])
    median = float(np.median(samples))
    energies = [t["energy_joules_per_image"] for t in timings if t["energy_joules_per_image"] is not None]
    return {
        "latency_ms_median": median,
        "latency_ms_p10": float(np.quantile(samples, 0.1)),
        "latency_ms_p90": float(np.quantile(samples, 0.9)),
        "latency_ms_p99": float(np.quantile(samples, 0.99)),
        "latency_ms_min": float(samples.min()),
        "latency_ms_first_call": timings[0]["first_call_ms"],
        "images_per_second": 1000.0 * cell.batch_size / median,
        "peak_memory_bytes": max(timing["peak_memory_bytes"] for timing in timings),
        "energy_joules_per_image": statistics.median(energies) if energies else None,
        "yardstick_ratio": _median(_ratios(rounds, yardsticks)),
        "yardstick_ms_median": _median([_round_median(item) for item in yardsticks]),
    }


def _ratios(rounds: list[Outcome], yardsticks: list[Outcome]) -> list[float | None]:
    """The cell's median over the yardstick's, by round, so that what slows a whole round cancels out."""
    ratios: list[float | None] = []
    for own, fixed in zip(rounds, yardsticks, strict=False):
        above, below = _round_median(own), _round_median(fixed)
        ratios.append(None if above is None or below is None else above / below)
    return ratios


def _round_median(outcome: Outcome) -> float | None:
    return statistics.median(outcome.latency["samples_ms"]) if outcome.latency else None


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _batch_metrics(rounds: list[Outcome]) -> dict[str, Any]:
    trials = [trial for item in rounds for trial in item.trials if trial["images_per_second"] is not None]
    if not trials:
        return {}
    best = max(trials, key=lambda trial: trial["images_per_second"])
    return {
        "best_images_per_second": best["images_per_second"],
        "best_batch_size": best["batch_size"],
        "best_batch_peak_memory_bytes": best["peak_memory_bytes"],
    }


def _conditions(cell: Cell, rounds: list[Outcome], timings: list[dict[str, Any]]) -> dict[str, Any]:
    first = timings[0] if timings else {}
    machine = rounds[0].machine if rounds else {}
    return {
        "cell": cell.key,
        "shape": [cell.batch_size, 3, cell.height, cell.width],
        "scope": cell.scope,
        "device": first.get("device", cell.device),
        "dtype": cell.dtype,
        "threads": first.get("threads", cell.threads),
        "kernels": first.get("kernels"),
        "backend": cell.backend,
        "compile": cell.compile,
        "channels_last": cell.channels_last,
        "fused": cell.fused,
        "rounds": len(rounds),
        "repetitions": cell.repetitions,
        "samples": sum(len(timing["samples_ms"]) for timing in timings),
        "memory": first.get("memory_scope"),
        "governor": machine.get("governor"),
        "yardstick": None if cell.model == YARDSTICK else YARDSTICK_WORDS,
    }


def _breakdown(rounds: list[Outcome], yardsticks: list[Outcome]) -> dict[str, list[dict[str, Any]]]:
    samples = [
        {"round": number, "latency_ms": sample}
        for number, item in enumerate(rounds)
        for sample in (item.latency["samples_ms"] if item.latency else [])
    ]
    states = [
        {
            "round": number,
            "latency_ms_median": _round_median(item),
            "yardstick_ms_median": _round_median(yardsticks[number]) if number < len(yardsticks) else None,
            **item.machine,
        }
        for number, item in enumerate(rounds)
    ]
    trials = [trial for item in rounds for trial in item.trials]
    return {"sample": samples, "round": states} | ({"batch": trials} if trials else {})


def _notes(timings: list[dict[str, Any]], rounds: list[Outcome], errors: list[str]) -> list[str]:
    notes = list(dict.fromkeys(note for timing in timings for note in timing["kernel_notes"]))
    unsteady = sum(not timing["steady"] for timing in timings)
    if unsteady:
        notes.append(f"not steady after the warm-up in {unsteady} of {len(timings)} rounds")
    busy = [item.machine.get("other_work_percent") or 0.0 for item in rounds]
    if max(busy, default=0.0) >= BUSY_PERCENT:
        notes.append(f"the machine was busy: up to {max(busy):.0f} % of its processors went to other work")
    loaded = max((item.machine.get("gpu_utilization_percent", 0.0) for item in rounds), default=0.0)
    if loaded >= BUSY_PERCENT:
        notes.append(f"the GPU was {loaded:.0f} % busy before a round began")
    if timings:
        notes += errors
    return notes
