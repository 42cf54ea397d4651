"""Runs -> terminal table, Markdown, CSV or JSON. The only place that rounds; no torch."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from segzoo.report.columns import COLUMNS, NAME, WITH_COMPARISON, Column
from segzoo.results import Run

MISSING = "-"


def render(runs: list[Run], format: str = "table") -> str:
    """The runs as text.

    Args:
        runs: results of one command.
        format: "table", "md", "csv" or "json" (one run is an object, several are a list).
    """
    if format == "json":
        content: Any = runs[0] if len(runs) == 1 else runs
        return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    columns = _columns(runs)
    if format == "csv":
        return _csv(runs, columns)
    from tabulate import tabulate

    rows = [[_cell(column, run) for column in columns] for run in runs]
    style = "github" if format == "md" else "simple"
    numeric = ["right" if _is_numeric(runs, column) else "left" for column in columns]
    text = tabulate(
        rows,
        [column.heading for column in columns],
        tablefmt=style,
        colalign=numeric if rows else None,
        disable_numparse=True,
    )
    return "\n".join([text, *_comparison(runs, format), *_footnotes(runs)])


def render_breakdown(runs: list[Run], name: str, format: str = "table") -> str:
    """One breakdown of the runs as text, a row for each of its rows, the model's name (if any) in front."""
    rows = [
        {"model": run.model["name"], **row} if "name" in run.model else row
        for run in runs
        for row in run.breakdown.get(name, [])
    ]
    if format != "csv":
        return table(rows, format)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def table(rows: list[dict[str, Any]], format: str = "table", *, as_written: bool = False) -> str:
    """Plain rows of text and numbers as a table; headings are the keys of the first row.

    Text that looks like a number is written and aligned like one, unless `as_written`.
    """
    from tabulate import tabulate

    style = "github" if format == "md" else "simple"
    formats = [".2f" if key.endswith("_percent") else "g" for key in (rows[0] if rows else ())]
    return tabulate(
        rows,
        headers="keys",
        tablefmt=style,
        missingval=MISSING,
        intfmt=",",
        floatfmt=formats or "g",
        disable_numparse=as_written,
    )


def _comparison(runs: list[Run], format: str) -> list[str]:
    """Published and measured figures, difference and tolerance, for the commands that show them below the totals."""
    rows = [
        {
            "model": run.model.get("name", ""),
            "figure": item.metric,
            "published": f"{item.value:g}",
            "measured": MISSING if item.measured is None else f"{item.measured:.2f}",
            "difference": MISSING if item.difference is None else f"{round(item.difference, 2) + 0.0:+.2f}",
            "tolerance": MISSING if item.tolerance is None else f"{item.tolerance:g}",
            "verdict": "partial" if run.status == "partial" else "ok" if item.within else "OFF",
            "source": item.source,
        }
        for run in runs
        if run.command in WITH_COMPARISON
        for item in run.expected
    ]
    return ["", table(rows, format, as_written=True)] if rows else []


def _columns(runs: list[Run]) -> list[Column]:
    """The command's columns that have a value in some run."""
    columns = COLUMNS.get(runs[0].command, [NAME]) if runs else [NAME]
    return [c for c in columns if c is NAME or any(c.value(run) is not None for run in runs)]


def _cell(column: Column, run: Run) -> str:
    value = column.value(run)
    return MISSING if value is None else column.write(value)


def _is_numeric(runs: list[Run], column: Column) -> bool:
    return any(isinstance(column.value(run), (int, float)) for run in runs)


def _csv(runs: list[Run], columns: list[Column]) -> str:
    """Values are written unrounded: a CSV is for machines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.heading for column in columns)
    for run in runs:
        writer.writerow("" if (value := column.value(run)) is None else value for column in columns)
    return text.getvalue().rstrip("\n")


def _footnotes(runs: list[Run]) -> list[str]:
    lines = []
    for run in runs:
        name = run.model.get("name", run.command)
        if run.error:
            lines.append(f"! {name}: {run.error}")
        lines += [f"* {name}: {note}" for note in run.notes]
    return ["", *lines] if lines else []
