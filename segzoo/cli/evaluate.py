"""`segzoo eval`: the accuracy of published models by their published protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from segzoo import paths
from segzoo.cli.options import (
    Checkpoint,
    DataRoot,
    Device,
    Dtype,
    DtypeOption,
    Format,
    FormatOption,
    Fuse,
    Json,
    Limit,
    Names,
    NoProgress,
    NoStrict,
    Offline,
    Output,
    Quiet,
    go_offline,
)
from segzoo.cli.output import emit, progress
from segzoo.cli.processes import Processes, one_voice, rank, start_processes
from segzoo.errors import UsageError
from segzoo.results import Run

AugTest = Annotated[
    bool, typer.Option("--aug-test", help="Multi-scale and flip: six ratios from 0.5 to 1.75, mirrored too.")
]
Check = Annotated[bool, typer.Option("--check", help="Exit with 7 if the mIoU is not the published one.")]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="Another data set by name, or a folder or archive of your own (docs/datasets.md)."),
]
Split = Annotated[str, typer.Option("--split", help="Part of the data set.")]
ProtocolOption = Annotated[str | None, typer.Option("--protocol", help="Another test protocol than the model's.")]
SavePredictions = Annotated[
    Path | None, typer.Option("--save-predictions", metavar="DIR", help="Write label maps as PNGs of class indices.")
]
Boundary = Annotated[bool, typer.Option("--boundary", help="Also Boundary IoU and the boundary F-score.")]
Calibration = Annotated[bool, typer.Option("--calibration", help="Also the expected calibration error.")]
Analysis = Annotated[
    Path | None,
    typer.Option(
        "--analysis",
        metavar="DIR",
        help="Write tables by class and image, confusion matrix, reliability diagram and the worst images; "
        "with --boundary and --calibration.",
    ),
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Show the classes too.")]
Windows = Annotated[
    int | None,
    typer.Option("--batch-size", "-b", min=1, help="Windows of an image that the network gets at once."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an evaluation that was interrupted.")]
Readers = Annotated[int, typer.Option("--workers", "-j", min=0, help="Threads that read images ahead.")]


def evaluate(
    names: Names,
    aug_test: AugTest = False,
    check: Check = False,
    dataset: DatasetOption = None,
    split: Split = "val",
    data_root: DataRoot = None,
    protocol: ProtocolOption = None,
    checkpoint: Checkpoint = None,
    no_strict: NoStrict = False,
    fuse: Fuse = False,
    limit: Limit = None,
    save_predictions: SavePredictions = None,
    boundary: Boundary = False,
    calibration: Calibration = False,
    analysis: Analysis = None,
    per_class: PerClass = False,
    device: Device = "auto",
    dtype: DtypeOption = Dtype.FP32,
    batch_size: Windows = None,
    workers: Readers = 1,
    nproc: Processes = 1,
    resume: Resume = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    offline: Offline = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Evaluate models on their data set: mIoU, mAcc, aAcc beside the published figure."""
    if check and limit is not None:
        raise UsageError("--check needs all images; leave out --limit")
    go_offline(offline)
    start_processes(nproc)
    from segzoo import evaluation
    from segzoo.registry import select

    run_one = partial(
        evaluation.evaluate_name,
        dataset=dataset,
        split=split,
        data_root=data_root,
        protocol=protocol,
        aug_test=aug_test,
        checkpoint=checkpoint,
        strict=not no_strict,
        fuse=fuse,
        device=device,
        dtype=dtype.value,
        batch_size=batch_size,
        limit=limit,
        workers=workers,
        boundary=boundary,
        calibration=calibration,
        progress=partial(_bar, quiet=quiet or no_progress or rank() > 0),
    )
    show = partial(emit, format=format, json=json, output=output, also="class" if per_class else None)
    with one_voice(device, quiet=quiet) as group, evaluation.keeping(paths.evaluations_folder(), resume=resume) as kept:
        folders = {"save_predictions": save_predictions, "analysis": analysis}
        runs = _evaluate_each(select(names), partial(run_one, group=group, keeper=kept), folders, show)
        if check:
            evaluation.check(runs)


def _evaluate_each(
    names: list[str], run_one: Callable[..., Run], folders: dict[str, Path | None], show: Callable[[list[Run]], None]
) -> list[Run]:
    """The records of all models; the first process shows what is done even where a later model fails."""
    runs: list[Run] = []
    try:
        for name in names:
            own = {key: base / name if base and len(names) > 1 else base for key, base in folders.items()}
            runs.append(run_one(name, **own))
    finally:
        if runs and rank() == 0:
            show(runs)
    return runs


def _bar(pairs: Iterable, total: int, *, quiet: bool) -> Iterable:
    return progress(pairs, total=total, unit="image", quiet=quiet)
