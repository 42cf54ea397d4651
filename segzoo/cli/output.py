"""Prints results on stdout and words on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from segzoo.cli.options import Format
from segzoo.report.render import render, render_breakdown
from segzoo.results import Run, write_text_atomically


def emit(
    runs: list[Run],
    *,
    format: Format = Format.TABLE,
    json: bool = False,
    output: Path | None = None,
    by: str | None = None,
    also: str | Sequence[str] | None = None,
    parts: Sequence[Run] = (),
) -> None:
    """Prints the runs in the chosen format and, where asked for, writes them to `output` as JSON.

    One run is written as an object, several as a list. `by` names a breakdown to show in place of the
    totals, `also` those to show below them (CSV, which is one table, has the first alone); JSON has all of them in
    any case. `parts` are records that the runs sum up; JSON and `output` have them after the runs.
    """
    style = "json" if json else format.value
    below = [also] if isinstance(also, str) else list(also or ())
    if style == "csv" and below:
        by = by or below[0]
    everything = [*runs, *parts]
    if style == "json":
        typer.echo(render(everything, style))
    else:
        typer.echo(render(runs, style) if by is None else render_breakdown(runs, by, style))
    for name in below if style in ("table", "md") else ():
        typer.echo("\n" + render_breakdown(runs, name, style))
    if output is not None:
        write_text_atomically(output, render(everything, "json") + "\n")


def say(message: str, *, quiet: bool = False) -> None:
    """A line for the person at the terminal, on stderr."""
    if not quiet:
        print(message, file=sys.stderr)


def progress(items: Iterable, *, total: int, unit: str, quiet: bool = False) -> Iterable:
    """`items` behind a progress bar on stderr; the bar shows only on a terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=unit, disable=True if quiet else None, file=sys.stderr, leave=False)
