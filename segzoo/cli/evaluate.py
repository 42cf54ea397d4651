"""`segzoo eval`: the accuracy of published models by their published protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
    writable_folder,
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
    Path | None,
    typer.Option(
        "--save-predictions",
        metavar="DIR",
        callback=writable_folder,
        help="Write label maps as PNGs of class indices.",
    ),
]
Boundary = Annotated[bool, typer.Option("--boundary", help="Also Boundary IoU and the boundary F-score.")]
Calibration = Annotated[bool, typer.Option("--calibration", help="Also the expected calibration error.")]
Compile = Annotated[bool, typer.Option("--compile", help="Run the model through torch.compile.")]
Corrupt = Annotated[
    list[str] | None,
    typer.Option(
        "--corrupt",
        metavar="KIND[:1-5]",
        help="Also on corrupted images, such as fog:3; a kind, a family (noise, blur, weather, digital) or all "
        "for every strength; repeatable.",
    ),
]
PrecisionReport = Annotated[
    bool,
    typer.Option("--precision-report", help="Compare fp32, tf32, bf16 and fp16: mIoU, labels, speed and memory."),
]
Analysis = Annotated[
    Path | None,
    typer.Option(
        "--analysis",
        metavar="DIR",
        callback=writable_folder,
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
    corrupt: Corrupt = None,
    precision_report: PrecisionReport = False,
    per_class: PerClass = False,
    device: Device = "auto",
    dtype: DtypeOption = Dtype.FP32,
    compile: Compile = False,
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
    from segzoo.data.corruptions import parse_corruptions
    from segzoo.registry import select

    corruptions = parse_corruptions(corrupt or [])

    setup = evaluation.Setup(
        dataset=dataset,
        split=split,
        data_root=data_root,
        protocol=protocol,
        aug_test=aug_test,
        checkpoint=checkpoint,
        strict=not no_strict,
        fuse=fuse,
        device=device,
    )
    shared: dict[str, Any] = {
        "setup": setup,
        "compile": compile,
        "batch_size": batch_size,
        "limit": limit,
        "workers": workers,
        "progress": partial(_bar, quiet=quiet or no_progress or rank() > 0),
    }
    extras: dict[str, Any] = {"dtype": dtype.value, "boundary": boundary, "calibration": calibration}
    folders = {"save_predictions": save_predictions, "analysis": analysis}
    also = "precision" if precision_report else "corruption" if corrupt else "class" if per_class else None
    show = partial(emit, format=format, json=json, output=output, also=also)
    with (
        one_voice(device, quiet=quiet, backend="gloo") as group,
        evaluation.keeping(paths.evaluations_folder(), resume=resume) as kept,
    ):
        if precision_report:
            _demand_plain(group.size, corrupt, extras, folders)
            measure, folders = partial(evaluation.precision_report_name, **shared), {}
        else:
            one = partial(evaluation.evaluate_name, **shared, **extras, group=group, keeper=kept)
            measure = partial(evaluation.evaluations, one, corruptions)
        runs = _evaluate_each(select(names), measure, folders, show)
        if check:
            evaluation.check([run for run in runs if run.command == "eval" and "corruption" not in run.conditions])


def _demand_plain(
    processes: int, corrupt: list[str] | None, extras: dict[str, Any], folders: dict[str, Path | None]
) -> None:
    """A precision report measures times, and takes every format itself.

    Raises:
        UsageError: options that do not go with it.
    """
    wrong = [f"--{key.replace('_', '-')}" for key, value in {**extras, **folders}.items() if value not in (None, False)]
    wrong = [option for option in wrong if (option, extras["dtype"]) != ("--dtype", Dtype.FP32.value)]
    wrong += ["--corrupt"] if corrupt else []
    wrong += ["more than one process"] if processes > 1 else []
    if wrong:
        raise UsageError(f"--precision-report does not go with {', '.join(wrong)}")


def _evaluate_each(
    names: list[str], measure: Callable[..., list[Run]], folders: dict[str, Path | None], show: Callable[..., None]
) -> list[Run]:
    """The records of all models; the first process shows what is done even where a later model fails.

    Args:
        measure: the record to show of a model, followed by those that it sums up.
    """
    runs: list[list[Run]] = []
    try:
        for name in names:
            own = {key: base / name if base and len(names) > 1 else base for key, base in folders.items()}
            runs.append(measure(name, **own))
    finally:
        if runs and rank() == 0:
            show([first for first, *_ in runs], parts=[run for _, *parts in runs for run in parts])
    return [run for of_name in runs for run in of_name]


def _bar(pairs: Iterable, total: int, *, quiet: bool) -> Iterable:
    return progress(pairs, total=total, unit="image", quiet=quiet)
