"""`segzoo data`: looks after the files of data sets."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import (
    DataRoot,
    DryRun,
    Format,
    FormatOption,
    Json,
    Limit,
    NoProgress,
    Offline,
    Output,
    Quiet,
    go_offline,
)
from segzoo.cli.output import emit, progress, say
from segzoo.errors import UsageError

data = typer.Typer(help="Look after the files of data sets.", rich_markup_mode=None, no_args_is_help=True)


def complete_dataset(incomplete: str) -> list[str]:
    """Names of data sets that begin with what has been typed, for the shell."""
    from segzoo.zoo.manifest import load_manifest

    return [name for name in load_manifest().datasets if name.startswith(incomplete)]


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="A folder or archive, or a data set by name.", autocompletion=complete_dataset
    ),
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Show the classes too.")]


@data.command("prepare")
def prepare(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A data set of the zoo.", autocompletion=complete_dataset)
    ],
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder that holds data sets (default: SEGZOO_DATA).")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="Only what this split needs; may be given several times."),
    ] = None,
    archives: Annotated[
        Path | None, typer.Option("--archives", help="Folder of the archives (default: downloads/ below the root).")
    ] = None,
    train_ids: Annotated[
        bool, typer.Option("--train-ids", help="Also write *_labelTrainIds.png, for other programs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept the licence; do not ask.")] = False,
    dry_run: DryRun = False,
    offline: Offline = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Download a data set, or say what to fetch by hand; check, unpack and convert it."""
    from segzoo import preparation

    go_offline(offline)
    plan = preparation.make_plan(dataset, root=root, splits=tuple(split or ()), archives=archives)
    for line in plan.words():
        say(line, quiet=quiet)
    if dry_run:
        run = preparation.planned(plan)
    else:
        if plan.by("download") and not plan.by("by hand") and not yes:
            _accept(plan.name, plan.entry.licence)
        bar = partial(_files_bar, quiet=quiet or no_progress)
        run = preparation.prepare(plan, progress=bar, quiet=quiet)
        if train_ids:
            preparation.write_train_ids(plan, bar)
    emit([run], format=format, json=json, output=output, also="archive" if dry_run else "split")


def _accept(name: str, licence: str | None) -> None:
    """Asks whether the licence is accepted; without a terminal --yes has to say so."""
    if not sys.stdin.isatty():
        raise UsageError(f"{name} has a licence ({licence or 'unknown'}); say --yes to accept it and download")
    typer.confirm("Accept this licence and download?", abort=True, err=True)


def _files_bar(names: Iterable[str], total: int, what: str, *, quiet: bool) -> Iterable[str]:
    return progress(names, total=total, unit="file", quiet=quiet)


@data.command("check")
def check(
    target: Target,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="What the folder is (default: recognised by what is in it)."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="Part of the data set (default: all that are there)."),
    ] = None,
    data_root: DataRoot = None,
    limit: Limit = None,
    part: Annotated[bool, typer.Option("--partial", help="Fewer pairs than published are meant.")] = False,
    per_class: PerClass = False,
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=0, help="Threads that read (default: one a core).")
    ] = None,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Examine a data set: right archive, counts, pairs, readable files, sizes, label values (exit code 5)."""
    from segzoo.data.check import check_subject, raise_problems
    from segzoo.data.subject import find_subject

    subject = find_subject(target, dataset=dataset, root=data_root, splits=tuple(split or ()))
    if subject.words:
        say(f"segzoo: {subject.words}", quiet=quiet)
    bar = partial(_bar, quiet=quiet or no_progress)
    runs = check_subject(subject, limit=limit, workers=workers, part_is_meant=part, progress=bar)
    kinds = [kind for kind in ("problem", "warning") if any(run.breakdown[kind] for run in runs)]
    emit(runs, format=format, json=json, output=output, also=[*kinds, *(["class"] if per_class else [])])
    raise_problems(runs)


def _bar(pairs: Iterable, total: int, *, quiet: bool) -> Iterable:
    return progress(pairs, total=total, unit="image", quiet=quiet)
