"""What stands in a cell of a table: how a value is found in a Run, and how a value is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segzoo.results import Run


def metric(name: str) -> Callable[[Run], Any]:
    """The value of one metric of a run."""
    return lambda run: run.metrics.get(name)


def bounds(low: str, high: str) -> Callable[[Run], Any]:
    """Two metrics of a run as one value; None where either is missing."""

    def value(run: Run) -> Any:
        pair = run.metrics.get(low), run.metrics.get(high)
        return None if None in pair else pair

    return value


def condition(name: str) -> Callable[[Run], Any]:
    """The value of one condition of a run."""
    return lambda run: run.conditions.get(name)


def model_name(run: Run) -> str:
    """The model's name, marked with * where the run has notes and with ! where it failed."""
    mark = "!" if run.status == "failed" else "*" if run.notes else ""
    return f"{run.model.get('name', '')}{mark}"


def data_split(run: Run) -> str:
    """The data set and its split."""
    return f"{run.conditions.get('dataset')} {run.conditions.get('split')}"


def decimals(places: int) -> Callable[[Any], str]:
    """Writes a number with a fixed number of decimals."""
    return lambda value: f"{value:.{places}f}"


def interval(value: Any) -> str:
    """Writes two bounds with two decimals."""
    return f"{value[0]:.2f} to {value[1]:.2f}"


def signed_interval(value: Any) -> str:
    """Writes two bounds of a difference."""
    return f"{value[0]:+.2f} to {value[1]:+.2f}"


def thousands(value: Any) -> str:
    """Writes a count with its digits in groups of three."""
    return f"{value:,}"


def millions(value: Any) -> str:
    """Writes a count in millions."""
    return f"{value / 1e6:.2f} M"


def billions(value: Any) -> str:
    """Writes a count in units of 10^9."""
    return f"{value / 1e9:.1f} G"


def printed_millions(value: Any) -> str:
    """Writes a published count in millions, with the digits it was printed with."""
    return f"{value / 1e6:g} M"


def printed_billions(value: Any) -> str:
    """Writes a published count in units of 10^9, with the digits it was printed with."""
    return f"{value / 1e9:g} G"


def mebibytes(value: Any) -> str:
    """Writes bytes in MiB."""
    return f"{value / 2**20:.0f} MiB"


def part(name: str, key: str) -> Callable[[Run], Any]:
    """The count `key` of one part of the model."""

    def value(run: Run) -> Any:
        return next((row[key] for row in run.breakdown.get("part", []) if row["part"] == name), None)

    return value


def expected(key: str, index: int = 0) -> Callable[[Run], Any]:
    """A field of the published figure that the run was compared with."""
    return lambda run: getattr(run.expected[index], key) if len(run.expected) > index else None


def of_metric(name: str, key: str) -> Callable[[Run], Any]:
    """A field of the comparison of one metric; "relative" is (measured - published) / published."""

    def value(run: Run) -> Any:
        item = next((item for item in run.expected if item.metric == name), None)
        if item is None or key != "relative":
            return None if item is None else getattr(item, key)
        return None if item.difference is None else item.difference / item.value

    return value


def relative_difference(run: Run) -> float | None:
    """(measured - published) / published of the run's first comparison."""
    first = run.expected[0] if run.expected else None
    return None if first is None or first.difference is None else first.difference / first.value


def percent(value: Any) -> str:
    """Writes a signed ratio in percent."""
    return f"{100 * value:+.2f} %"


def verdict(value: Any) -> str:
    """Writes whether a figure is within its tolerance."""
    return "ok" if value else "OFF"


def by_times(value: Any) -> str:
    """Writes a shape such as 1x3x512x2048."""
    return "x".join(map(str, value))


def short_hash(value: Any) -> str:
    """Writes the first digits of a hash."""
    return str(value)[:12]


def megabytes(value: Any) -> str:
    """Writes bytes in MB (10^6)."""
    return f"{value / 1e6:.1f} MB"
