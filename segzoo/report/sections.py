"""The report's smaller tables as HTML: published against measured, IoU by class, machines, links to pictures."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

from segzoo.report.entries import Entry
from segzoo.results import Expected, Run

MOST_HEAT_COLUMNS = 60

# Cividis (Nuñez, Anderton, Renslow, PLoS ONE 2018), five of its colours: the same order with any colour vision.
_CIVIDIS = ((0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56))

_UNITS = {"params": ("parameters", 1e6, " M"), "macs_by_rule": ("multiply-adds", 1e9, " G")}


def comparison_table(runs: list[Run]) -> str:
    """Published figures beside ours, the difference and whether it is within the tolerance; "" without any."""
    rows = [(run, item) for run in runs for item in run.expected]
    if not rows:
        return ""
    head = "<th>model</th><th>figure</th><th>published</th><th>measured</th><th>difference</th><th>verdict</th>"
    lines = dict.fromkeys(_comparison_row(run, item) for run, item in rows)
    return f'<table class="plain"><thead><tr>{head}<th>source</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _comparison_row(run: Run, item: Expected) -> str:
    title, unit, suffix = _UNITS.get(item.metric, (item.metric.replace("_", " "), 1.0, ""))
    relative = item.metric in _UNITS
    difference = "-"
    if item.difference is not None:
        difference = f"{100 * item.difference / item.value:+.2f} %" if relative else f"{item.difference:+.2f}"
    verdict, mark = _verdict(run, item)
    cells = [
        escape(run.model.get("name", "")),
        escape(title),
        f"{item.value / unit:,g}{suffix}",
        "-" if item.measured is None else f"{item.measured / unit:,.2f}{suffix}",
        difference,
        f'<span class="{mark}">{verdict}</span>',
        _link(item.source),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _verdict(run: Run, item: Expected) -> tuple[str, str]:
    if item.within is None:
        return "other device", "mild"
    if run.status == "partial":
        return "partial", "mild"
    if item.within:
        return "✓ within", "good"
    return ("explained", "mild") if run.conditions.get("verdict") == "explained" else ("✗ off", "bad")


def _link(source: str) -> str:
    if source.startswith(("https://", "http://")):
        return f'<a href="{escape(source)}">{escape(source.split("/")[2])}</a>'
    return escape(source)


def heat_map(runs: list[Run]) -> str:
    """IoU by class of each evaluation, a table for each data set, the most difficult classes first; "" without any."""
    tables = []
    evaluated = [
        run
        for run in runs
        if run.command == "eval" and run.breakdown.get("class") and "corruption" not in run.conditions
    ]
    for dataset in dict.fromkeys(run.conditions.get("dataset") for run in evaluated):
        mine = [run for run in evaluated if run.conditions.get("dataset") == dataset]
        shown = sorted(mine, key=lambda run: -(run.metrics.get("miou_percent") or 0.0))[:MOST_HEAT_COLUMNS]
        rest = f"; the best {len(shown)} of {len(mine)} evaluations" if len(mine) > len(shown) else ""
        tables.append(f"<h3>{escape(str(dataset))}{rest}</h3>{_heat_table(shown)}")
    return "".join(tables)


def _heat_table(runs: list[Run]) -> str:
    by_run = [{row["class"]: row["iou_percent"] for row in run.breakdown["class"]} for run in runs]
    classes = list(dict.fromkeys(name for table in by_run for name in table))
    means = {name: _mean([table.get(name) for table in by_run]) for name in classes}
    classes.sort(key=lambda name: (means[name] is None, means[name]))
    heads = "".join(f"<th><span>{escape(_evaluation_name(run))}</span></th>" for run in runs)
    lines = [
        f"<tr><th>{escape(name)}</th>{''.join(_heat_cell(table.get(name)) for table in by_run)}</tr>"
        for name in classes
    ]
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><th>class</th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _evaluation_name(run: Run) -> str:
    several = run.conditions.get("views", 1) != 1
    partial = " (partial)" if run.status == "partial" else ""
    return f"{run.model.get('name', '')}{' ms' if several else ''}{partial}"


def _heat_cell(value: float | None) -> str:
    if value is None:
        return '<td class="none">-</td>'
    red, green, blue = heat_colour(value / 100)
    ink = "#fff" if value < 55 else "#111"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}">{value:.0f}</td>'


def heat_colour(share: float) -> tuple[int, int, int]:
    """A colour of the cividis scale for 0..1, between its neighbours in a straight line."""
    place = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    index = min(int(place), len(_CIVIDIS) - 2)
    part = place - index
    red, green, blue = (
        round(low + part * (high - low)) for low, high in zip(_CIVIDIS[index], _CIVIDIS[index + 1], strict=True)
    )
    return red, green, blue


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def environment_table(runs: list[Run]) -> str:
    """Every machine and set of software the records were made with, and how many of them."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for run in runs:
        facts = _environment_facts(run)
        if facts:
            counts[facts] = counts.get(facts, 0) + 1
    if not counts:
        return ""
    heads = list(dict.fromkeys(key for facts in counts for key, _ in facts))
    lines = []
    for facts, count in counts.items():
        known = dict(facts)
        lines.append(
            "<tr>" + "".join(f"<td>{escape(known.get(key, '-'))}</td>" for key in heads) + f"<td>{count}</td></tr>"
        )
    head = "".join(f"<th>{escape(key)}</th>" for key in heads)
    return f'<table class="plain"><thead><tr>{head}<th>records</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _environment_facts(run: Run) -> tuple[tuple[str, str], ...]:
    place = run.environment
    if place is None:
        return ()
    facts: dict[str, Any] = {
        "processor": f"{place.cpu}, {place.cpu_count} cores",
        "device": place.device or "-",
        "system": place.platform,
        "python": place.python,
        "segzoo": place.segzoo,
        **place.packages,
    }
    return tuple((key, str(value)) for key, value in facts.items())


def picture_links(rows: list[Entry], page: Path) -> str:
    """Links to folders of predictions, relative to the page where that is possible; "" without any."""
    items = [
        f'<li><a href="{escape(_relative(folder, page))}">{escape(row.model)}</a> {escape(folder)}</li>'
        for row in rows
        for folder in row.pictures
    ]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _relative(folder: str, page: Path) -> str:
    try:
        return Path(os.path.relpath(Path(folder).absolute(), page.absolute().parent)).as_posix() + "/"
    except ValueError:  # another drive
        return Path(folder).absolute().as_uri()
