"""`segzoo data`: looks after the files of data sets."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated

import typer

from segzoo.cli.options import DataRoot, Format, FormatOption, Json, Limit, NoProgress, Output, Quiet
from segzoo.cli.output import emit, progress

data = typer.Typer(help="Look after the files of data sets.", rich_markup_mode=None, no_args_is_help=True)


def complete_dataset(incomplete: str) -> list[str]:
    """Names of data sets that begin with what has been typed, for the shell."""
    from segzoo.zoo.manifest import load_manifest

    return [name for name in load_manifest().datasets if name.startswith(incomplete)]


DatasetName = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A data set by name, or a folder with images/, labels/ and classes.txt.",
        autocompletion=complete_dataset,
    ),
]
Split = Annotated[str, typer.Option("--split", help="Part of the data set.")]
PerClass = Annotated[bool, typer.Option("--per-class", help="Show the classes too.")]


@data.command("check")
def check(
    dataset: DatasetName,
    split: Split = "val",
    data_root: DataRoot = None,
    limit: Limit = None,
    per_class: PerClass = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Read every image and label, count the classes, and list what an evaluation would stop at (exit code 5)."""
    from segzoo.data import open_dataset
    from segzoo.data.check import check_dataset, raise_problems

    pairs = open_dataset(dataset, root=data_root, split=split)
    run = check_dataset(pairs, limit=limit, progress=partial(_bar, quiet=quiet or no_progress))
    shown = "problem" if run.breakdown["problem"] else "class" if per_class else None
    emit([run], format=format, json=json, output=output, also=shown)
    raise_problems(run)


def _bar(indices: Iterable, total: int, *, quiet: bool) -> Iterable:
    return progress(indices, total=total, unit="image", quiet=quiet)
