"""`segzoo import`: an mmsegmentation config as entries of a manifest. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import Json
from segzoo.cli.output import say


def import_config(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.py", help="Read, never executed.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the entry (default: the file's).")] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Devices that the config's batch is for.")] = 8,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write to FILE, not stdout.")] = None,
    json: Json = False,
) -> None:
    """Turn an mmsegmentation 0.x or 1.x config into a manifest entry: architecture, protocol, recipe."""
    import msgspec

    from segzoo.results import write_text_atomically
    from segzoo.zoo.mmseg_import import as_yaml, import_config

    sections = import_config(config, name=name, gpus=gpus)
    text = msgspec.json.encode(sections).decode() + "\n" if json else as_yaml(sections)
    if write is None:
        typer.echo(text.rstrip("\n"))
    else:
        write_text_atomically(write, text)
        say(f"written to {write}; use it with `segzoo --zoo {write} ...`")
