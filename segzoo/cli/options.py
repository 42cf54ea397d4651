"""Parameters that several commands share: one spelling, one help text, one completion."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from segzoo.errors import UsageError


class Format(str, Enum):
    """How a result is written to stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"


class Dtype(str, Enum):
    """Number format of the model's arithmetic."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


def complete_model(incomplete: str) -> list[str]:
    """Names of the zoo that begin with what has been typed, for the shell."""
    from segzoo.registry import names

    return [name for name in names() if name.startswith(incomplete)]


Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Models; globs such as 'nat-*' work.", autocompletion=complete_model),
]
OptionalNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME...]", help="Models; globs such as 'nat-*' work (default: all).", autocompletion=complete_model
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model.", autocompletion=complete_model)]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
Json = Annotated[bool, typer.Option("--json", help="Same as --format json.")]


def writable_file(path: Path | None) -> Path | None:
    """The path itself: what a command found out, maybe in hours, must not be lost for want of a place.

    Raises:
        UsageError: a folder, or a file that cannot be made or written.
    """
    if path is not None and path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; name a file")
    if path is not None:
        _demand_writable(path, path if path.exists() else _nearest(path.absolute().parent))
    return path


def writable_folder(path: Path | None) -> Path | None:
    """The path itself, of a folder to write files into, which need not be there; see `writable_file`.

    Raises:
        UsageError: a file, or a folder that cannot be made or written.
    """
    if path is not None:
        _demand_writable(path, _nearest(path.absolute()))
    return path


def _nearest(folder: Path) -> Path:
    """What there is of a folder and the folders above it.

    Raises:
        UsageError: a file.
    """
    found = next(there for there in (folder, *folder.parents) if there.exists())
    if not found.is_dir():
        raise UsageError(f"cannot write into {folder}: {found} is no folder")
    return found


def _demand_writable(path: Path, place: Path) -> None:
    if not os.access(place, os.W_OK):
        raise UsageError(f"cannot write {path}: {place} is read-only, or not yours to write")


Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", callback=writable_file, help="Also write the record(s) to this JSON file."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Number format of the model's arithmetic.")]
Shape = Annotated[str, typer.Option("--shape", metavar="HxW", help="Input height and width in pixels.")]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images in one batch.")]
Workers = Annotated[
    int, typer.Option("--workers", "-j", min=0, help="Processes that read images; 0 reads in this one.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder or archive (.zip, .tar) of the data set (default: below SEGZOO_DATA)."),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights file to use in place of the published one.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="N", help="Only the first N images; marks the result partial."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No words on stderr but errors.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")]
Fuse = Annotated[bool, typer.Option("--fuse", help="Fold batch norms into the convolutions before them.")]
NoStrict = Annotated[
    bool, typer.Option("--no-strict", help="Load what fits of the weights and report the rest as a note.")
]


def parse_shape(text: str) -> tuple[int, int]:
    """(height, width) of a word such as "512x2048" or "512".

    Raises:
        UsageError: not one or two positive whole numbers.
    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UsageError(f"impossible shape {text!r}: give height x width in pixels, such as 512x2048")
    return int(sides[0]), int(sides[1])


def go_offline(offline: bool) -> None:
    """Makes --offline hold for the whole process."""
    if offline:
        os.environ["SEGZOO_OFFLINE"] = "1"
