"""Pretraining of a model's backbone by name, on a folder of pictures by class."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from segzoo.data.image_folder import ImageFolder
from segzoo.errors import UsageError
from segzoo.processes.endings import stop_wish
from segzoo.processes.group import Group, joined
from segzoo.registry import create_model
from segzoo.results import Run
from segzoo.training import checkpoints, checks
from segzoo.training.classification import Classification, ClassificationLoss, Classifier
from segzoo.training.memory_saving import checkpoint_activations
from segzoo.training.plan import Plan
from segzoo.training.run import (
    Options,
    checkpoint_to_resume,
    keep_record,
    make_plan,
    placed,
    run_task,
    sole_process,
    work_dir_of,
)
from segzoo.training.trial import check_step, classification_step
from segzoo.zoo.schema import Recipe

BACKBONE = "backbone.pt"


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Label smoothing, and the strengths of mixup and cutmix (0 leaves one out)."""

    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0


def pretraining_recipe(*, side: int, iterations: int, batch_size: int, lr: float, warmup: int) -> Recipe:
    """AdamW with weight decay 0.05 but for norms and biases, linear warm-up and linear decay.

    Raises:
        UsageError: values that no training can have.
    """
    if lr <= 0:
        raise UsageError(f"impossible lr {lr}: it must be above 0")
    checks.check_crop((side, side))
    return Recipe(
        lr=lr,
        weight_decay=0.05,
        paramwise={word: {"decay_mult": 0.0} for word in ("norm", "bias", "rpb", "gamma")},
        schedule={"policy": "poly", "power": 1.0, "min_lr": 0.0},
        warmup={"policy": "linear", "iterations": warmup, "ratio": 1e-3},
        iterations=iterations,
        batch_size=batch_size,
        crop=(side, side),
        category_max_ratio=None,
        photometric=False,
        clip_norm=5.0,
        sync_batch_norm=True,
    )


def pretrain_name(
    name: str, root: Path, recipe: Recipe, mixing: Mixing, options: Options, group: Group | None = None
) -> Run:
    """Trains the backbone of a model as a classifier; backbone.pt in the work directory is for `train --init`.

    Args:
        name: a name of the zoo.
        root: with train/CLASS and val/CLASS below it.
        recipe: see `pretraining_recipe`.
        mixing: of labels and pictures.
        options: all else.
        group: the processes that train together; those that torchrun's variables name where None.

    Raises:
        InterruptedRunError: SIGTERM or Ctrl-C in the loop; a checkpoint has been written. Before it they end at once.
        UsageError, DatasetError, SegzooError: one line each.
    """
    with (
        nullcontext(group) if group else joined(options.device) as group,
        sole_process(work_dir_of(name, options), group),
    ):
        dataset, held_out = (ImageFolder(root, split) for split in ("train", "val"))
        if dataset.classes != held_out.classes:
            raise UsageError(f"{root}: train has {len(dataset.classes)} classes, val {len(held_out.classes)} or others")
        facts = {"task": "classification", "data": dataset.fingerprint(), "mixing": vars(mixing)}
        plan = make_plan(name, recipe, options, group, {**facts, "dataset": dataset.name})
        if (mixing.mixup or mixing.cutmix) and plan.per_device % 2:
            raise UsageError(f"mixup and cutmix need an even number of images on each device, not {plan.per_device}")
        _try_a_step(name, recipe, mixing, options, plan, group, len(dataset.classes))
        resumed, sentences = checkpoint_to_resume(plan, options.resume)
        torch.manual_seed(options.seed)
        model = Classifier(*_backbone(name), len(dataset.classes))
        checks.check_disk(plan.work_dir, model, recipe.optimizer, options.keep)
        task = Classification(
            placed(model, recipe, options, group),  # type: ignore[arg-type]
            recipe,
            group,
            dataset=dataset,
            held_out=held_out,
            smoothing=mixing.smoothing,
            mixup=mixing.mixup,
            cutmix=mixing.cutmix,
            channels_last=options.channels_last,
        )
        with stop_wish() as stop:
            run = run_task("pretrain", name, task, plan, options, group, stop, resumed, sentences)
            keep_record(run, task, plan, group)
            if group.main:
                checkpoints.save_atomically(plan.work_dir / BACKBONE, {"model": model.backbone.state_dict()})
        return run


def _try_a_step(
    name: str, recipe: Recipe, mixing: Mixing, options: Options, plan: Plan, group: Group, classes: int
) -> None:
    """Refuses what the first iteration would, before pictures are read."""
    with torch.device("meta"):
        model = Classifier(*_backbone(name, device="meta"), classes)
    if options.activation_checkpointing:
        checkpoint_activations(model)
    check_step(
        model,
        classification_step(ClassificationLoss(model, classes, **vars(mixing)), recipe),
        recipe,
        group.device,
        images=plan.per_device,
        dtype=plan.dtype,
        synced=recipe.sync_batch_norm and group.size > 1,
        size_option=Classification.size_option,
    )


def _backbone(name: str, device: str = "cpu") -> tuple[torch.nn.Module, int]:
    """A fresh backbone of the zoo and the channels of its last map."""
    backbone = getattr(create_model(name, device=device), "backbone", None)
    channels = getattr(backbone, "out_channels", None)
    if backbone is None or not channels:
        raise UsageError(f"{name} has no backbone that gives maps of known width")
    return backbone, channels[-1]
