"""`segzoo convert`: a checkpoint under the names of another system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import Format, FormatOption, Json, Name
from segzoo.cli.output import emit


def convert(
    name: Name,
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A weights file, or a folder of the Hugging Face Hub.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="LAYOUT", help="original, hugging-face, hugging-face-5, nota or native.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .safetensors or .pth file; for Hugging Face also a folder (no suffix), with config.json.",
        ),
    ],
    num_classes: Annotated[
        int | None, typer.Option("--num-classes", min=1, help="Classes of the checkpoint (default: the model's).")
    ] = None,
    format: FormatOption = Format.TABLE,
    json: Json = False,
) -> None:
    """Write a checkpoint in another layout, after a strict check against the model; its layout is detected."""
    from segzoo.registry import create_model, entry
    from segzoo.weights.convert import convert as convert_checkpoint

    model = create_model(name, num_classes=num_classes, device="meta")
    run = convert_checkpoint(name, model, entry(name), checkpoint, to=to, output=output)
    emit([run], format=format, json=json)
