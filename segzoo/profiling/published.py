"""Compares what was counted with what the authors printed."""

from __future__ import annotations

from segzoo.errors import ToleranceError
from segzoo.results import Expected, Run
from segzoo.zoo.schema import Count, Published

OPERATIONS_TOLERANCE = 0.005
"""Relative; tables print three or four digits."""
PARAMETERS_TOLERANCE = 0.01
"""Relative; tables print two or three digits."""


def expected_macs(published: Published | None, shape: tuple[int, int], rule: str, macs: int) -> list[Expected]:
    """The published multiply-adds beside `macs`, where they are given for this shape and rule."""
    operations = published.operations if published else None
    if published is None or operations is None:
        return []
    if set(operations.shape) != set(shape) or operations.rule != rule:
        return []
    return [_compared("macs_by_rule", published_macs(operations), macs, OPERATIONS_TOLERANCE, published.source)]


def expected_params(published: Published | None, params: int) -> list[Expected]:
    """The published number of parameters beside `params`."""
    if published is None or published.params is None:
        return []
    return [_compared("params", published.params, params, PARAMETERS_TOLERANCE, published.source)]


def expected_latency(published: Published | None, median_ms: float) -> list[Expected]:
    """The published latency beside ours, without a verdict: it was taken on another device."""
    if published is None or published.latency is None:
        return []
    taken = published.latency
    return [
        Expected(
            metric="latency_ms_median",
            value=taken.value_ms,
            source=f"{published.source} ({taken.scope} on {taken.device})",
            measured=median_ms,
            difference=median_ms - taken.value_ms,
        )
    ]


def published_macs(operations: Count) -> float:
    """The published count in multiply-adds."""
    return operations.value / (2 if operations.unit == "flops" else 1)


def check(runs: list[Run]) -> None:
    """Holds every run to its published figure.

    Raises:
        ToleranceError: a figure out of tolerance, or a run without one.
    """
    unknown = [run.model["name"] for run in runs if not run.expected]
    if unknown:
        raise ToleranceError(
            f"nothing is published to check {', '.join(unknown)} against at this shape and by this rule"
        )
    beyond = [
        f"{run.model['name']}: {item.metric} {item.measured:,.0f}, published {item.value:,.0f}"
        for run in runs
        for item in run.expected
        if not item.within
    ]
    if beyond:
        raise ToleranceError(f"out of tolerance: {'; '.join(beyond)}")


def _compared(metric: str, value: float, measured: int, relative: float, source: str) -> Expected:
    return Expected(
        metric=metric,
        value=value,
        source=source,
        measured=measured,
        difference=measured - value,
        tolerance=relative * value,
        within=abs(measured - value) <= relative * value,
    )
