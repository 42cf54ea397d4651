"""Training of a model of the zoo by its name: recipe, data, protocol and first weights from the manifest."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any

import msgspec
import torch

from segzoo import paths
from segzoo.data import Dataset, open_dataset
from segzoo.data.drawn import DrawnOnce
from segzoo.data.scenes import ScenesDataset
from segzoo.errors import UsageError, suggestion
from segzoo.processes.endings import stop_wish
from segzoo.processes.group import Group, joined
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Run
from segzoo.training import checks
from segzoo.training.initialisation import initial_model
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
from segzoo.training.segmentation import Segmentation
from segzoo.training.trial import check_step, segmentation_step
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.schema import Recipe


def recipe_for(name: str, recipe: str | None = None, **changes: Any) -> Recipe:
    """The recipe of a model, or another by its name, with the changes that are not None.

    Args:
        name: a name of the zoo.
        recipe: a name of the manifest.
        changes: fields of Recipe, and "warmup_iterations".

    Raises:
        UsageError: the model has none, there is none of this name, or a value that no recipe can have.
    """
    known = load_manifest().recipes
    chosen = recipe or entry(name).recipe
    if chosen is None:
        raise UsageError(f"{name} has no recipe; give one by --recipe: {', '.join(known)}")
    if chosen not in known:
        raise UsageError(f"there is no recipe {chosen!r}{suggestion(chosen, known)}; there are: {', '.join(known)}")
    changes = {key: value for key, value in changes.items() if value is not None}
    if "warmup_iterations" in changes:
        words = {"policy": "linear", "ratio": 1e-6, **known[chosen].warmup}
        changes["warmup"] = {**words, "iterations": changes.pop("warmup_iterations")}
    for key in ("lr", "iterations", "batch_size"):
        if key in changes and changes[key] <= 0:
            raise UsageError(f"impossible {key.replace('_', ' ')} {changes[key]}: it must be above 0")
    return msgspec.structs.replace(known[chosen], **changes)


def train_name(name: str, recipe: Recipe, options: Options, group: Group | None = None) -> Run:
    """Trains a model of the zoo; the record of it also lies in the work directory.

    The work directory receives log.jsonl, checkpoints to continue from, best.pt (the weights of the best
    evaluation), model.pt (the last weights), pictures of each evaluation, curves.png and record.json.

    Args:
        name: a name of the zoo.
        recipe: see `recipe_for`.
        options: all else.
        group: the processes that train together; those that torchrun's variables name where None.

    Raises:
        InterruptedRunError: SIGTERM or Ctrl-C in the loop; a checkpoint has been written. Before it they end at once.
        UsageError, DatasetError, IntegrityError, NetworkError, UnavailableError, SegzooError: one line each.
    """
    checks.check_crop(recipe.crop)
    with (
        nullcontext(group) if group else joined(options.device) as group,
        sole_process(work_dir_of(name, options), group),
    ):
        dataset, held_out, count = _data(name, options)
        facts = {"dataset": dataset.name, "pictures": count, "data": dataset.fingerprint()}
        plan = make_plan(name, recipe, options, group, facts)
        classes = dataset.num_classes
        _try_a_step(name, recipe, options, plan, group, classes)
        resumed, sentences = checkpoint_to_resume(plan, options.resume)
        torch.manual_seed(options.seed)
        model, origin = initial_model(
            name,
            "scratch" if resumed else options.init,
            num_classes=classes,
            reset_classifier=options.reset_classifier,
        )
        checks.check_disk(plan.work_dir, model, recipe.optimizer, options.keep)
        task = Segmentation(
            placed(model, recipe, options, group),
            recipe,
            group,
            dataset=dataset,
            held_out=held_out,
            protocol=get_protocol(options.protocol or name),
            work_dir=plan.work_dir,
            pictures=count,
            seed=options.seed,
            evaluate_limit=options.evaluate_limit,
            compile=options.compile,
            channels_last=options.channels_last,
        )
        if plan.dtype != recipe.precision and options.dtype is None:
            sentences.append(f"{recipe.precision} is for CUDA; {group.device} computes in fp32 (--dtype insists)")
        sentences += [] if resumed else [origin]
        with stop_wish() as stop:
            run = run_task("train", name, task, plan, options, group, stop, resumed, sentences)
            run = dataclasses.replace(run, breakdown={"class": task.classes})
            keep_record(run, task, plan, group)
        return run


def _try_a_step(name: str, recipe: Recipe, options: Options, plan: Plan, group: Group, classes: int) -> None:
    """Refuses what the first iteration would, before weights are downloaded and pictures read."""
    model = create_model(name, num_classes=classes, device="meta")
    if options.activation_checkpointing:
        checkpoint_activations(model)
    synced = recipe.sync_batch_norm and group.size > 1
    check_step(
        model,
        segmentation_step(model, recipe),
        recipe,
        group.device,
        images=plan.per_device,
        dtype=plan.dtype,
        synced=synced,
        size_option=Segmentation.size_option,
    )


def _data(name: str, options: Options) -> tuple[Dataset, Dataset | None, int]:
    """(training pictures, held-out pictures, number of the first to use); scenes are drawn once and kept."""
    chosen = options.dataset or entry(name).dataset
    dataset = _kept(open_dataset(chosen, root=options.data_root, split="train"))
    held_out = None
    if options.evaluate_every != -1:
        held_out = _kept(open_dataset(chosen, root=options.data_root, split="val"))
        if held_out.num_classes != dataset.num_classes:
            raise UsageError(f"{chosen}: train has {dataset.num_classes} classes, val {held_out.num_classes}")
    return dataset, held_out, min(options.pictures or len(dataset), len(dataset))


def _kept(dataset: Dataset) -> Dataset:
    if isinstance(dataset, ScenesDataset):
        return DrawnOnce(dataset, paths.data_folder() / "drawn", dataset.size)
    return dataset
