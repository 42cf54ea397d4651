"""`segzoo export`: models as files for other programs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import BatchSize, Checkpoint, Json, Name, Offline, go_offline, parse_shape
from segzoo.cli.output import emit


class ExportFormat(str, Enum):
    """Kinds of files."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    TORCHSCRIPT = "torchscript"
    COREML = "coreml"


FormatOption = Annotated[ExportFormat, typer.Option("--format", help="Kind of file.")]
File = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write (default: NAME with the format's ending).")
]
Shape = Annotated[
    str | None,
    typer.Option("--shape", metavar="HxW", help="Input to trace (default: the protocol's window, else 512x512)."),
]
Dynamic = Annotated[
    bool | None,
    typer.Option("--dynamic/--fixed", help="Leave height and width open, or not (default: where the model allows)."),
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="With the published weights.")]
NumClasses = Annotated[int | None, typer.Option("--num-classes", min=1, help="Classes of the checkpoint.")]
Fuse = Annotated[bool, typer.Option("--fuse", help="Fold batch norms first.")]


def export(
    name: Name,
    format: FormatOption = ExportFormat.ONNX,
    output: File = None,
    shape: Shape = None,
    batch_size: BatchSize = 1,
    dynamic: Dynamic = None,
    pretrained: Pretrained = False,
    checkpoint: Checkpoint = None,
    num_classes: NumClasses = None,
    fuse: Fuse = False,
    json: Json = False,
    offline: Offline = False,
) -> None:
    """Write a model as a file that runs without segzoo, and check it: logits at several sizes, labels, metadata."""
    go_offline(offline)
    from segzoo.export.run import export_run

    run = export_run(
        name,
        format=format.value,
        output=output,
        shape=parse_shape(shape) if shape else None,
        batch_size=batch_size,
        dynamic=dynamic,
        pretrained=pretrained,
        checkpoint=checkpoint,
        num_classes=num_classes,
        fuse=fuse,
    )
    emit([run], json=json)
