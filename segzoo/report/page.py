"""The report as one HTML page that needs nothing else: style, script, data and pictures are inside it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from segzoo.report.entries import Entry
from segzoo.report.page_columns import used_columns
from segzoo.report.pareto import Picture, pictures
from segzoo.report.scatter import mark_of, scatter, shape_at
from segzoo.report.sections import comparison_table, environment_table, heat_map, picture_links
from segzoo.results import Run

_ASSETS = Path(__file__).parent / "assets"


def page(runs: list[Run], rows: list[Entry], *, title: str, warnings: Iterable[str], path: Path) -> str:
    """The page's text.

    Args:
        runs: all records.
        rows: the same, joined.
        title: heading of the page.
        warnings: lines that stand above everything else.
        path: where the page will be, for relative links.
    """
    shown = pictures(rows)
    families = sorted({point.family for picture in shown for point in picture.points})
    sections = (
        ("pareto", "Score against cost", _pictures(shown, families)),
        ("published", "Published against measured", _folded(comparison_table(runs))),
        ("classes", "IoU by class", heat_map(runs)),
        ("pictures", "Pictures", picture_links(rows, path)),
        ("machines", "Machines and software", _folded(environment_table(runs))),
    )
    used = [(anchor, name, content) for anchor, name, content in sections if content]
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        style=_asset("page.css"),
        script=_asset("page.js"),
        summary=escape(_summary(runs, rows)),
        warnings="".join(f'<p class="warning">{escape(line)}</p>' for line in warnings),
        links="".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in used),
        sections="".join(f'<section id="{a}"><h2>{escape(n)}</h2>{content}</section>' for a, n, content in used),
        data=_embedded(_table_data(rows)),
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _folded(table: str) -> str:
    return f'<div class="scroll">{table}</div>' if table else ""


def _summary(runs: list[Run], rows: list[Entry]) -> str:
    models = len({row.model for row in rows})
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return f"{models} models, {len(rows)} rows from {len(runs)} records; {today}"


def _pictures(shown: list[Picture], families: list[str]) -> str:
    if not shown:
        return ""
    figures = [
        f"<figure><figcaption>mIoU on {escape(picture.dataset)} against {escape(picture.cost.title)}"
        f"<small>{escape(picture.setting)}</small></figcaption>{scatter(picture, families)}</figure>"
        for picture in shown
    ]
    return f"{_legend(families)}<div class='figures'>{''.join(figures)}</div>"


def _legend(families: list[str]) -> str:
    items = []
    for index, name in enumerate(families):
        colour, shape = mark_of(index)
        sample = f'<svg viewBox="0 0 16 16"><g class="mark" fill="{colour}" stroke="{colour}">{shape_at(shape, 8, 8)}'
        items.append(f"<span>{sample}</g></svg>{escape(name)}</span>")
    return (
        f"<p class='legend'>{''.join(items)}</p><p class='hint'>Filled: measured here. Hollow: the authors' figure. "
        "Line: no other model is better at that cost. Point at a mark for its numbers.</p>"
    )


def _table_data(rows: list[Entry]) -> dict[str, Any]:
    """Columns, and each row as the list of its values with its notes at the end."""
    columns = used_columns(rows)
    return {
        "columns": [
            {"key": c.key, "heading": c.heading, "hint": c.hint, "divisor": c.divisor, "decimals": c.decimals}
            for c in columns
        ],
        "rows": [[*(row.values.get(column.key) for column in columns), row.notes] for row in rows],
    }


def _embedded(data: Any) -> str:
    """JSON that cannot end the <script> element it stands in."""
    return msgspec.json.encode(data).decode().replace("<", "\\u003c")
