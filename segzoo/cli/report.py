"""`segzoo report`, `segzoo diff` and `segzoo replay`: what is done with records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import Quiet
from segzoo.cli.output import say

Records = Annotated[
    list[Path], typer.Argument(metavar="RECORDS...", help="Files of records (.json, .jsonl) and folders of them.")
]
ReportOutput = Annotated[
    Path, typer.Option("--output", "-o", help="Where to write; the ending .html, .md or .csv says what.")
]
Title = Annotated[str, typer.Option("--title", help="Heading of the report.")]
AlsoMarkdown = Annotated[bool, typer.Option("--md", help="Write Markdown beside it.")]
AlsoCsv = Annotated[bool, typer.Option("--csv", help="Write CSV beside it, unrounded.")]
Plots = Annotated[bool, typer.Option("--plots", help="Write PNG pictures beside it (needs matplotlib).")]


def report(
    records: Records,
    output: ReportOutput = Path("report.html"),
    title: Title = "segzoo report",
    markdown: AlsoMarkdown = False,
    csv: AlsoCsv = False,
    plots: Plots = False,
    quiet: Quiet = False,
) -> None:
    """Join records of list, params, flops, verify, latency, bench and eval into one page, Markdown or CSV."""
    from segzoo.report.write import write_report

    also = (*((".md",) if markdown else ()), *((".csv",) if csv else ()))
    written = write_report(records, output, title=title, also=also, plots=plots)
    for line in [*written.warnings, *written.notices]:
        say(f"segzoo: warning: {line}", quiet=quiet)
    for file in written.files:
        typer.echo(file)
