"""`segzoo predict`: label maps of pictures of one's own, to look at and to use."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import (
    Checkpoint,
    Device,
    Dtype,
    DtypeOption,
    Format,
    FormatOption,
    Json,
    Name,
    NoProgress,
    NoStrict,
    Offline,
    Quiet,
    go_offline,
    writable_folder,
)
from segzoo.cli.output import emit, progress

Images = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Image files, or folders of them.", show_default=False),
]
Folder = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="DIR", callback=writable_folder, help="Folder for the label maps and overlays."
    ),
]
AugTest = Annotated[
    bool, typer.Option("--aug-test", help="Multi-scale and flip: six ratios from 0.5 to 1.75, mirrored too.")
]
Opacity = Annotated[float, typer.Option("--opacity", metavar="0..1", help="Of the class colours over the image.")]


def predict(
    name: Name,
    images: Images,
    output: Folder = Path("predictions"),
    aug_test: AugTest = False,
    opacity: Opacity = 0.5,
    checkpoint: Checkpoint = None,
    no_strict: NoStrict = False,
    device: Device = "auto",
    dtype: DtypeOption = Dtype.FP32,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    offline: Offline = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Label pictures: of each an index PNG and an overlay with a colour legend."""
    go_offline(offline)
    from segzoo.pictures import predict_files

    run = predict_files(
        name,
        images,
        output,
        aug_test=aug_test,
        checkpoint=checkpoint,
        strict=not no_strict,
        opacity=opacity,
        device=device,
        dtype=dtype.value,
        progress=partial(_bar, quiet=quiet or no_progress),
    )
    emit([run], format=format, json=json, output=output / "predict.json", also="image")


def _bar(files: Iterable, total: int, *, quiet: bool) -> Iterable:
    return progress(files, total=total, unit="image", quiet=quiet)
