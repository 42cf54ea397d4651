"""Which numbers of a Run stand in a command's table, under which heading and rounded how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from segzoo.results import Run


class Column(NamedTuple):
    """A heading, the value of a run under it, and how the value is written."""

    heading: str
    value: Callable[[Run], Any]
    write: Callable[[Any], str] = str


def metric(name: str) -> Callable[[Run], Any]:
    """The value of one metric of a run."""
    return lambda run: run.metrics.get(name)


def condition(name: str) -> Callable[[Run], Any]:
    """The value of one condition of a run."""
    return lambda run: run.conditions.get(name)


def model_name(run: Run) -> str:
    """The model's name, marked with * where the run has notes and with ! where it failed."""
    mark = "!" if run.status == "failed" else "*" if run.notes else ""
    return f"{run.model.get('name', '')}{mark}"


def decimals(places: int) -> Callable[[Any], str]:
    """Writes a number with a fixed number of decimals."""
    return lambda value: f"{value:.{places}f}"


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


NAME = Column("model", model_name)

COLUMNS: dict[str, list[Column]] = {
    "list": [
        NAME,
        Column("data set", condition("dataset")),
        Column("params", metric("params_published"), printed_millions),
        Column("MACs", metric("macs_published"), printed_billions),
        Column("at", condition("macs_shape")),
        Column("mIoU", metric("miou_percent_published"), "{:g}".format),
        Column("mIoU ms+flip", metric("miou_ms_percent_published"), "{:g}".format),
        Column("weights", condition("weights")),
    ],
}
