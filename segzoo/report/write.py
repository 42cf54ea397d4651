"""`segzoo report`: records -> page, Markdown, CSV and plots."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from segzoo.errors import UsageError
from segzoo.report.entries import Entry, conflicts, entries
from segzoo.report.page import page
from segzoo.report.page_columns import used_columns
from segzoo.report.reading import read_records
from segzoo.results import Run, write_text_atomically

SUFFIXES = (".html", ".md", ".csv")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and what a reader should be told."""

    files: list[Path]
    warnings: list[str]
    notices: list[str]


def write_report(
    records: list[Path], output: Path, *, title: str = "segzoo report", also: tuple[str, ...] = (), plots: bool = False
) -> Report:
    """Writes a report of all records.

    Args:
        records: files and folders of records.
        output: a file that ends in .html, .md or .csv.
        title: heading of the page.
        also: further endings to write beside `output`.
        plots: also write PNG pictures, named after `output`.

    Raises:
        UsageError: an unknown ending, or paths without records.
        IntegrityError: a file that is no record.
        UnavailableError: plots without matplotlib.
    """
    if output.suffix not in SUFFIXES:
        raise UsageError(f"cannot write {output}: a report ends in {', '.join(SUFFIXES)}")
    if plots:
        from segzoo.report.plots import require_matplotlib

        require_matplotlib()
    runs, notices = read_records(records)
    rows, warnings = entries(runs), conflicts(runs)
    files = []
    for suffix in dict.fromkeys((output.suffix, *also)):
        path = output.with_suffix(suffix)
        write_text_atomically(path, _text(suffix, runs, rows, title, warnings, path))
        files.append(path)
    if plots:
        from segzoo.report.plots import write_plots

        files += write_plots(rows, output)
    return Report(files=files, warnings=warnings, notices=notices)


def _text(suffix: str, runs: list[Run], rows: list[Entry], title: str, warnings: list[str], path: Path) -> str:
    if suffix == ".html":
        return page(runs, rows, title=title, warnings=warnings, path=path)
    return _markdown(rows, title, warnings) if suffix == ".md" else _csv(rows)


def _markdown(rows: list[Entry], title: str, warnings: list[str]) -> str:
    from tabulate import tabulate

    columns = used_columns(rows)
    cells = [[column.write(row.values.get(column.key)) for column in columns] for row in rows]
    for row, line in zip(rows, cells, strict=True):
        line[0] += " *" if row.notes else ""
    sides = ["left" if column.decimals is None else "right" for column in columns]
    table = tabulate(
        cells, [c.heading for c in columns], tablefmt="github", disable_numparse=True, colalign=sides if rows else None
    )
    notes = dict.fromkeys(f"- {row.model}: {note}" for row in rows for note in row.notes)
    lines = [f"# {title}", "", *(f"> {line}\n" for line in warnings), table, "", *notes]
    return "\n".join(lines).rstrip() + "\n"


def _csv(rows: list[Entry]) -> str:
    """Unrounded values under the columns' keys."""
    columns = used_columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(column.key for column in columns), "notes"])
    for row in rows:
        values = ["" if (value := row.values.get(c.key)) is None else value for c in columns]
        writer.writerow([*values, "; ".join(row.notes)])
    return text.getvalue()
