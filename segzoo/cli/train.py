"""`segzoo train`: models by their published recipes, on one core or many machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import (
    DataRoot,
    Device,
    Dtype,
    Format,
    FormatOption,
    Json,
    Name,
    NoProgress,
    Offline,
    Output,
    Quiet,
    go_offline,
    parse_shape,
    writable_folder,
)
from segzoo.cli.output import emit
from segzoo.cli.processes import Processes, one_voice, start_processes

WorkDir = Annotated[
    Path | None,
    typer.Option(
        "--work-dir", metavar="DIR", callback=writable_folder, help="Log, checkpoints, record (default: runs/NAME)."
    ),
]
TrainDataset = Annotated[
    str | None,
    typer.Option("--dataset", help="Another data set by name, or a folder with images/, labels/ and classes.txt."),
]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="Another recipe than the model's, by name.")]
ProtocolName = Annotated[str | None, typer.Option("--protocol", help="Another test protocol than the model's.")]
Init = Annotated[
    str,
    typer.Option(
        "--init",
        help="First weights: backbone (published pretraining), pretrained (published segmentation), scratch, a file, "
        "or auto (backbone where there is one).",
    ),
]
ResetClassifier = Annotated[
    bool, typer.Option("--reset-classifier", help="Begin the classifier anew where --init has other classes.")
]
Resume = Annotated[
    str, typer.Option("--resume", help="auto continues the run in the work directory, no refuses to, or a checkpoint.")
]
Iterations = Annotated[int | None, typer.Option("--iterations", min=1, help="Optimiser steps of the whole run.")]
Warmup = Annotated[int | None, typer.Option("--warmup", min=0, help="Iterations of the warm-up.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Base learning rate.")]
WholeBatch = Annotated[
    int | None, typer.Option("--batch-size", "-b", min=1, help="Images of one iteration, over all devices.")
]
PerDevice = Annotated[
    int | None,
    typer.Option("--per-device", min=1, help="Images that a device runs at once; gradients of the parts are added."),
]
Crop = Annotated[str | None, typer.Option("--crop", metavar="HxW", help="Training crop in pixels.")]
Pictures = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Train on the first N pictures.")]
Readers = Annotated[
    int, typer.Option("--workers", "-j", min=0, help="Reading processes of each training process; 0 reads in it.")
]
TrainDtype = Annotated[Dtype | None, typer.Option("--dtype", help="Number format (default: the recipe's).")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides first weights, order and augmentation.")]
Compile = Annotated[bool, typer.Option("--compile", help="Run the model through torch.compile.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Memory layout of convolutions on GPUs.")]
Recompute = Annotated[
    bool, typer.Option("--activation-checkpointing", help="Less memory: blocks run again for their gradient.")
]
LogEvery = Annotated[int, typer.Option("--log-every", min=1, help="Iterations between lines of log.jsonl.")]
EvalEvery = Annotated[
    int | None,
    typer.Option(
        "--eval-every", min=-1, help="Iterations between evaluations (default: a tenth); 0: at the end, -1: never."
    ),
]
EvalLimit = Annotated[int | None, typer.Option("--eval-limit", min=1, help="Evaluate on the first images only.")]
SaveEvery = Annotated[
    int | None, typer.Option("--save-every", min=0, help="Iterations between checkpoints (default: a twentieth).")
]
Keep = Annotated[int, typer.Option("--keep", min=1, help="Checkpoints to keep, beside the best weights.")]
Tensorboard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")]


def train(
    name: Name,
    work_dir: WorkDir = None,
    dataset: TrainDataset = None,
    data_root: DataRoot = None,
    recipe: RecipeName = None,
    protocol: ProtocolName = None,
    init: Init = "auto",
    reset_classifier: ResetClassifier = False,
    resume: Resume = "auto",
    iterations: Iterations = None,
    warmup: Warmup = None,
    lr: LearningRate = None,
    batch_size: WholeBatch = None,
    per_device: PerDevice = None,
    crop: Crop = None,
    limit: Pictures = None,
    seed: Seed = 0,
    nproc: Processes = 1,
    workers: Readers = 1,
    device: Device = "auto",
    dtype: TrainDtype = None,
    compile: Compile = False,
    channels_last: ChannelsLast = False,
    activation_checkpointing: Recompute = False,
    log_every: LogEvery = 50,
    eval_every: EvalEvery = None,
    eval_limit: EvalLimit = None,
    save_every: SaveEvery = None,
    keep: Keep = 2,
    tensorboard: Tensorboard = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    offline: Offline = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Train a model by its published recipe; the same command continues an interrupted run."""
    go_offline(offline)
    start_processes(nproc)
    with one_voice(device, quiet=quiet) as group:
        from segzoo.training.named import recipe_for, train_name
        from segzoo.training.run import Options

        changes = {"iterations": iterations, "lr": lr, "batch_size": batch_size, "warmup_iterations": warmup}
        shape = None if crop is None else parse_shape(crop)
        options = Options(
            work_dir=work_dir,
            dataset=dataset,
            data_root=data_root,
            protocol=protocol,
            init=init,
            reset_classifier=reset_classifier,
            resume=resume,
            seed=seed,
            pictures=limit,
            per_device=per_device,
            workers=workers,
            device=device,
            dtype=None if dtype is None else dtype.value,
            compile=compile,
            channels_last=channels_last,
            activation_checkpointing=activation_checkpointing,
            log_every=log_every,
            evaluate_every=eval_every,
            evaluate_limit=eval_limit,
            save_every=save_every,
            keep=keep,
            tensorboard=tensorboard,
            quiet=quiet,
            bar=not no_progress,
        )
        run = train_name(name, recipe_for(name, recipe, crop=shape, **changes), options, group)
        if group.main:
            emit([run], format=format, json=json, output=output)


Root = Annotated[Path, typer.Option("--data-root", help="Folder with train/CLASS and val/CLASS below it.")]
Side = Annotated[int, typer.Option("--side", min=32, help="Height and width of the training views in pixels.")]
Steps = Annotated[int, typer.Option("--iterations", min=1, help="Optimiser steps of the whole run.")]
Rate = Annotated[float, typer.Option("--lr", help="Base learning rate.")]
Images = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images of one iteration, over all devices.")]
WarmupSteps = Annotated[int, typer.Option("--warmup", min=0, help="Iterations of the warm-up.")]
Smoothing = Annotated[float, typer.Option("--label-smoothing", min=0.0, max=0.99, help="Share given to all classes.")]
MixupStrength = Annotated[float, typer.Option("--mixup", min=0.0, help="Strength of mixup; 0 leaves it out.")]
CutmixStrength = Annotated[float, typer.Option("--cutmix", min=0.0, help="Strength of cutmix; 0 leaves it out.")]


def pretrain(
    name: Name,
    data_root: Root,
    work_dir: WorkDir = None,
    side: Side = 224,
    iterations: Steps = 100000,
    warmup: WarmupSteps = 1000,
    lr: Rate = 1e-3,
    batch_size: Images = 256,
    per_device: PerDevice = None,
    label_smoothing: Smoothing = 0.1,
    mixup: MixupStrength = 0.8,
    cutmix: CutmixStrength = 1.0,
    seed: Seed = 0,
    nproc: Processes = 1,
    workers: Readers = 1,
    resume: Resume = "auto",
    device: Device = "auto",
    dtype: TrainDtype = None,
    channels_last: ChannelsLast = False,
    activation_checkpointing: Recompute = False,
    log_every: LogEvery = 50,
    eval_every: EvalEvery = None,
    save_every: SaveEvery = None,
    keep: Keep = 2,
    tensorboard: Tensorboard = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Train a model's backbone as a classifier on a folder of pictures, for `train --init WORK_DIR/backbone.pt`."""
    start_processes(nproc)
    with one_voice(device, quiet=quiet) as group:
        from segzoo.training.pretraining import Mixing, pretrain_name, pretraining_recipe
        from segzoo.training.run import Options

        recipe = pretraining_recipe(
            side=side, iterations=iterations, batch_size=batch_size, lr=lr, warmup=min(warmup, iterations)
        )
        mixing = Mixing(smoothing=label_smoothing, mixup=mixup, cutmix=cutmix)
        options = Options(
            work_dir=work_dir,
            resume=resume,
            seed=seed,
            per_device=per_device,
            workers=workers,
            device=device,
            dtype=None if dtype is None else dtype.value,
            channels_last=channels_last,
            activation_checkpointing=activation_checkpointing,
            log_every=log_every,
            evaluate_every=eval_every,
            save_every=save_every,
            keep=keep,
            tensorboard=tensorboard,
            quiet=quiet,
            bar=not no_progress,
        )
        run = pretrain_name(name, data_root, recipe, mixing, options, group)
        if group.main:
            emit([run], format=format, json=json, output=output)
