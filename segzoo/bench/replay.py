"""Runs again what a record describes, with what its conditions say of the call that made it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from segzoo.bench.plan import Cell
from segzoo.errors import UsageError
from segzoo.results import Run

SUMMARIES = ("robustness", "precision")
"""Records that sum up several evaluations, whose own records follow them in the file."""


def replay_all(runs: list[Run]) -> list[Run]:
    """New records in place of all of them; evaluations that another record sums up are made once, with it.

    Raises:
        UsageError, SegzooError: see `replay`.
    """
    return [new for run in runs if not _is_part(run, runs) for new in replay(run)]


def replay(run: Run) -> list[Run]:
    """The new record of the same model, conditions and command; of a summary its evaluations too.

    Raises:
        UsageError: a record of another command, one that failed, or an evaluation that does not say of what.
        SegzooError: whatever the command itself raises.
    """
    again: dict[str, Callable[[Run], Run | list[Run]]] = {
        "params": _params,
        "flops": _flops,
        "flops explained": _flops_explained,
        "flops of a protocol": _flops_of_a_protocol,
        "verify": _verify,
        "latency": _latency,
        "bench": _bench,
        "eval": _evaluation,
        "robustness": _robustness,
        "precision": _precision,
    }
    if run.command not in again:
        raise UsageError(f"a record of {run.command!r} cannot be run again; records of {', '.join(again)} can")
    if run.status == "failed":
        raise UsageError(
            f"the record of {run.model.get('name')} failed ({run.error}); there is nothing to compare with"
        )
    new = again[run.command](run)
    return new if isinstance(new, list) else [new]


def _is_part(run: Run, runs: list[Run]) -> bool:
    """Whether the evaluation was made by a command that also wrote a summary of it, which is there as well."""
    made_by = (run.model, run.command_line)
    return run.command == "eval" and any(
        other.command in SUMMARIES and (other.model, other.command_line) == made_by for other in runs
    )


def _params(run: Run) -> Run:
    from segzoo.profiling.records import params_run

    return params_run(run.model["name"])


def _flops(run: Run) -> Run:
    from segzoo.profiling.records import flops_run

    conditions = run.conditions
    return flops_run(run.model["name"], **_input(run), rule=conditions["rule"], tree_depth=conditions.get("tree_depth"))


def _flops_explained(run: Run) -> Run:
    from segzoo.profiling.explain import explain_run

    return explain_run(run.model["name"], shape=_input(run)["shape"])


def _flops_of_a_protocol(run: Run) -> Run:
    from segzoo.profiling.explain import protocol_run

    return protocol_run(run.model["name"], shape=_input(run)["shape"], rule=run.conditions["rule"])


def _verify(run: Run) -> Run:
    from segzoo.profiling.verify import verify_run

    return verify_run(run.model["name"])


def _latency(run: Run) -> Run:
    from segzoo.profiling.latency_record import latency_run

    conditions = run.conditions
    return latency_run(
        run.model["name"],
        **_input(run),
        **_timing(run),
        repetitions=conditions["samples"],
        fuse=conditions.get("fuse", False),
    )


def _bench(run: Run) -> Run:
    from segzoo.bench.run import bench

    conditions = run.conditions
    (height, width), batch_size = _input(run).values()
    cell = Cell(
        model=run.model["name"],
        height=height,
        width=width,
        batch_size=batch_size,
        **_timing(run),
        fused=conditions["fused"],
        backend=conditions["backend"],
        repetitions=conditions["repetitions"],
    )
    measure = partial(bench, rounds=conditions["rounds"], throughput="batch" in run.breakdown)
    # Records of older versions do not say how long a process was given.
    limit = {"timeout_s": conditions["timeout_s"]} if "timeout_s" in conditions else {}
    with tempfile.TemporaryDirectory(prefix="segzoo-replay-") as folder:
        return next(iter(list(measure([cell], Path(folder) / "bench.jsonl", **limit))))


def _input(run: Run) -> dict[str, Any]:
    """Height, width and batch of what was counted or timed."""
    batch_size, _, height, width = run.conditions["shape"]
    return {"shape": (height, width), "batch_size": batch_size}


def _timing(run: Run) -> dict[str, Any]:
    """What `latency_run` and a cell of a benchmark have in common."""
    conditions = run.conditions
    same = ("device", "dtype", "scope", "compile", "channels_last")
    threads = conditions["threads"] if conditions["device"] == "cpu" else None
    return {**{key: conditions[key] for key in same}, "threads": threads}


def _evaluation(run: Run) -> Run:
    from segzoo.evaluation import evaluate_name

    corruption = run.conditions.get("corruption")
    return evaluate_name(run.model["name"], **_evaluating(run), **_measuring(run), corruption=corruption)


def _robustness(run: Run) -> list[Run]:
    from segzoo.evaluation import evaluate_name, robustness
    from segzoo.evaluation.robustness import corruptions_of

    evaluate = partial(evaluate_name, run.model["name"], **_evaluating(run), **_measuring(run))
    return robustness(evaluate, corruptions_of(run))


def _precision(run: Run) -> list[Run]:
    from segzoo.evaluation import precision_report_name

    return precision_report_name(run.model["name"], **_evaluating(run))


def _evaluating(run: Run) -> dict[str, Any]:
    """What all kinds of evaluations have in common."""
    from segzoo.evaluation import Setup

    conditions = run.conditions
    if "setup" not in conditions:
        raise UsageError(
            f"the record of {run.model.get('name')} does not say with which weights and data it was made (in Python, "
            f"or by an older segzoo); evaluate again, as was done by: {' '.join(run.command_line)}"
        )
    images, total = run.metrics["images"], conditions["dataset_images"]
    return {
        "setup": dataclasses.replace(Setup(**conditions["setup"]), device=conditions["device"]),
        "compile": conditions["compile"],
        "batch_size": conditions["batch_size"],
        "workers": conditions["workers"],
        "limit": int(images) if images is not None and images < total else None,
    }


def _measuring(run: Run) -> dict[str, Any]:
    """Number format and measures, which a report on precision does not have."""
    from segzoo.evaluation.measures import MEASURES

    asked = {measure: condition in run.conditions for measure, condition in MEASURES.items()}
    return {"dtype": run.conditions["dtype"], **asked}
