"""Holds every row of the zoo to its published parameters and operations, on the meta device."""

from __future__ import annotations

import dataclasses

from segzoo.errors import ToleranceError
from segzoo.profiling.records import flops_run, params_run
from segzoo.registry import entry
from segzoo.results import Expected, Run


def verify_run(name: str) -> Run:
    """Parameters and operations of one row beside the published figures, with a verdict.

    The verdict is "ok" where all published figures are reproduced, "explained" where one is not and the
    entry's `published.unreproduced` says why, "OFF" where nothing explains it, and "not published"
    where there is nothing to compare with. What each module costs is left to `segzoo flops --tree`.

    Raises:
        UsageError: unknown name.
    """
    params, operations = params_run(name), flops_run(name)
    expected = [*params.expected, *operations.expected]
    published = entry(name).published
    reasons = published.unreproduced if published else {}
    notes = [f"{metric}: {why}" for metric, why in reasons.items()]
    return dataclasses.replace(
        operations,
        command="verify",
        metrics={**params.metrics, **operations.metrics},
        conditions={**operations.conditions, "verdict": _verdict(expected, set(reasons))},
        expected=expected,
        breakdown={key: rows for key, rows in operations.breakdown.items() if key != "module"},
        notes=[*operations.notes, *notes],
        duration_s=params.duration_s + operations.duration_s,
    )


def check(runs: list[Run]) -> None:
    """Fails where a published figure is neither reproduced nor explained.

    Raises:
        ToleranceError: names the rows that are off, or that could not be counted.
    """
    off = [run.model["name"] for run in runs if run.conditions.get("verdict", "OFF") == "OFF"]
    if off:
        raise ToleranceError(f"published figures that do not come out, with no explanation: {', '.join(off)}")


def _verdict(expected: list[Expected], explained: set[str]) -> str:
    if not expected:
        return "not published"
    beyond = {item.metric for item in expected if not item.within}
    if not beyond:
        return "ok"
    return "explained" if beyond <= explained else "OFF"
