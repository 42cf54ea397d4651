"""`segzoo report`, `segzoo compare`, `segzoo diff` and `segzoo replay`: what is done with records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import Format, FormatOption, Json, Output, Quiet
from segzoo.cli.output import emit, say
from segzoo.report.render import render
from segzoo.results import write_text_atomically

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

Before = Annotated[Path, typer.Argument(metavar="BEFORE", help="A file or folder of records.")]
After = Annotated[Path, typer.Argument(metavar="AFTER", help="A file or folder of records.")]
Record = Annotated[Path, typer.Argument(metavar="RECORD", help="A file of one or more records.")]
First = Annotated[Path, typer.Argument(metavar="A", help="A file with the record of one evaluation.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another one, of the same images.")]
Replicates = Annotated[int, typer.Option("--replicates", min=100, help="Draws of images for the intervals.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")]
FailOnRegression = Annotated[
    str | None,
    typer.Option(
        "--fail-on-regression", metavar="PERCENT", help="Exit with 7 if a figure is worse by more than this, e.g. 5%."
    ),
]


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


def compare(
    first: First,
    second: Second,
    replicates: Replicates = 10_000,
    seed: Seed = 0,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Compare two evaluations of the same images: difference in mIoU with interval and p value, and class by class."""
    from segzoo.compare import compare_paths

    run = compare_paths(first, second, replicates=replicates, seed=seed)
    emit([run], format=format, json=json, output=output, also="class")


def diff(
    before: Before,
    after: After,
    fail_on_regression: FailOnRegression = None,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Compare two records, or two files or folders of them: what got better or worse beyond the noise."""
    from segzoo.report.diff import demand_no_regression, diff_paths, parse_percent

    bound = None if fail_on_regression is None else parse_percent(fail_on_regression)
    run = diff_paths(before, after)
    emit([run], format=format, json=json, output=output, also="figure")
    if bound is not None:
        demand_no_regression(run, bound)


def replay(
    record: Record,
    fail_on_regression: FailOnRegression = None,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Run again what a record describes (params, flops, verify, latency, bench, eval), and compare."""
    from segzoo.bench.replay import replay_all
    from segzoo.report.diff import demand_no_regression, parse_percent
    from segzoo.report.diff import diff as compare
    from segzoo.report.reading import read_records

    bound = None if fail_on_regression is None else parse_percent(fail_on_regression)
    before = read_records([record])[0]
    after = replay_all(before)
    run = compare(before, after, names=(str(record), "now"))
    emit([run], format=format, json=json, also="figure")
    if output is not None:
        write_text_atomically(output, render(after, "json") + "\n")
    if bound is not None:
        demand_no_regression(run, bound)
