"""Holds an evaluation to the published mIoU."""

from __future__ import annotations

from segzoo.errors import ToleranceError
from segzoo.protocol import Protocol
from segzoo.results import Expected, Run
from segzoo.zoo.schema import Published


def expected_miou(published: Published | None, own: Protocol, used: Protocol, measured: float | None) -> list[Expected]:
    """The published mIoU for the protocol that was used, beside the measured one.

    Args:
        published: the authors' figures.
        own: the model's own protocol; figures are for it (single-scale where it has one view) and for
            its multi-scale variant, and for no other.
        used: the protocol of this evaluation.
        measured: mIoU in percent.
    """
    if published is None or used not in (own, own.aug_test()):
        return []
    value = published.miou if used.views == 1 else published.miou_ms
    if value is None:
        return []
    difference = None if measured is None else measured - value
    return [
        Expected(
            metric="miou_percent",
            value=value,
            source=published.source,
            measured=measured,
            difference=difference,
            tolerance=published.tolerance,
            within=difference is not None and _within(difference, published.tolerance),
        )
    ]


def check(runs: list[Run]) -> None:
    """Holds every run to its published figure.

    Raises:
        ToleranceError: a figure beyond its tolerance, one that is not published, or one of a partial run.
    """
    problems = [problem for run in runs for problem in _problems(run)]
    if problems:
        raise ToleranceError("; ".join(problems))


def _problems(run: Run) -> list[str]:
    name = run.model["name"]
    if not run.expected:
        return [f"{name}: no mIoU is published for {run.conditions['dataset']} by this protocol to check against"]
    if run.status == "partial":
        return [f"{name}: a partial result cannot be checked against a published one"]
    return [
        f"{name}: {item.metric} is {_figure(item.measured)}, published is {item.value:g}, a difference of "
        f"{_figure(item.difference, signed=True)} where {item.tolerance:g} is allowed"
        for item in run.expected
        if not item.within
    ]


def _within(difference: float, tolerance: float) -> bool:
    """Published figures have two decimals: a difference of 0.1 in them is 0.1, whatever its binary digits."""
    return abs(difference) <= tolerance + 1e-9


def _figure(value: float | None, *, signed: bool = False) -> str:
    return "not a number" if value is None else f"{value:+.2f}" if signed else f"{value:.2f}"
