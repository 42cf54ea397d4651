"""`segzoo download` and `segzoo cache`: weights and where they are kept. No torch."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer

from segzoo.cli.options import (
    DryRun,
    Format,
    FormatOption,
    Json,
    Names,
    NoProgress,
    Offline,
    Output,
    Quiet,
    complete_model,
    go_offline,
)
from segzoo.cli.output import emit, say
from segzoo.errors import IntegrityError, UsageError
from segzoo.results import Run

cache = typer.Typer(help="The cache of weights: list, verify, remove.", rich_markup_mode=None, no_args_is_help=True)

_OptionalNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME...]", help="Models; globs such as 'nat-*' work.", autocompletion=complete_model),
]


class Part(str, Enum):
    """What the weights are for."""

    MODEL = "model"
    BACKBONE = "backbone"


def download(
    names: Names,
    part: Annotated[Part, typer.Option("--part", help="The trained model, or its pretrained backbone.")] = Part.MODEL,
    force: Annotated[bool, typer.Option("--force", help="Download again what is cached.")] = False,
    dry_run: DryRun = False,
    offline: Offline = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Download the weights of models into the cache; what is there already is not fetched again."""
    from segzoo.registry import select
    from segzoo.weights.runs import download_all, without_weights

    go_offline(offline)
    chosen = select(names)
    # A glob means what can be had; a model that is named in full and has no weights is an error.
    if skipped := [name for name in without_weights(chosen, part.value) if name not in names]:
        say(f"no weights of the {part.value} are published for {', '.join(skipped)}", quiet=quiet)
    wanted = [name for name in chosen if name not in skipped]
    progress = not (quiet or no_progress)
    runs, errors = download_all(wanted, part=part.value, force=force, dry_run=dry_run, progress=progress)
    if json or output or len(errors) < len(runs):
        emit(runs, format=format, json=json, output=output)
    for error in errors[1:]:
        say(f"segzoo: error: {error}")
    if errors:
        raise errors[0]


@cache.command("ls")
def cache_ls(format: FormatOption = Format.TABLE, json: Json = False) -> None:
    """List the cached weights with their models, sizes and hashes."""
    from segzoo.weights.cache import list_cache

    _show(list_cache(), format=format, json=json)


@cache.command("verify")
def cache_verify(names: _OptionalNames = None, format: FormatOption = Format.TABLE, json: Json = False) -> None:
    """Hash the cached weights again and compare; exits 4 when a file is damaged."""
    from segzoo.registry import select
    from segzoo.weights.cache import verify_cache

    runs = verify_cache(select(names) if names else None)
    _show(runs, format=format, json=json)
    damaged = [run.error for run in runs if run.error]
    if damaged:
        raise IntegrityError(f"{len(damaged)} of {len(runs)} cached files: {'; '.join(damaged)}")


@cache.command("prune")
def cache_prune(
    names: _OptionalNames = None,
    everything: Annotated[bool, typer.Option("--all", help="All weights.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="The recorded hashes of removed files too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
) -> None:
    """Remove the weights of models, --all, or (without either) unfinished downloads and files of no model."""
    from segzoo.registry import select
    from segzoo.weights.cache import prunable, prune

    doomed = prunable(select(names) if names else None, everything=everything)
    whole = everything or bool(names)
    if doomed and not (yes or dry_run):
        _confirm([str(file.path) for file in doomed])
    runs = [prune(file, everything=whole, forget=forget, dry_run=dry_run) for file in doomed]
    _show(runs, format=format, json=json)


@cache.command("path")
def cache_path(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A model.", autocompletion=complete_model)
    ] = None,
) -> None:
    """Print the folder of the cache or, for a model, where its weights are or would be."""
    from segzoo import paths
    from segzoo.registry import entry
    from segzoo.weights.download import expected_path
    from segzoo.weights.sources import weights_source

    typer.echo(expected_path(weights_source(name, entry(name))) if name else paths.weights_folder())


def _show(runs: list[Run], *, format: Format, json: bool) -> None:
    """Prints the runs; in place of an empty table, a word on stderr."""
    if runs or json or format is Format.JSON:
        emit(runs, format=format, json=json)
    else:
        say("nothing in the cache that this is about")


def _confirm(files: list[str]) -> None:
    say("\n".join(files))
    if not sys.stdin.isatty():
        raise UsageError(f"{len(files)} files would be removed; say --yes (or --dry-run to see them only)")
    typer.confirm("Remove these files?", abort=True, err=True)
