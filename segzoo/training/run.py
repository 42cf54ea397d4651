"""What training and pretraining have in common around the loop: options, work directory, checkpoint, record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from segzoo import kernels
from segzoo.errors import UsageError
from segzoo.processes.endings import StopWish
from segzoo.processes.group import Group
from segzoo.results import Run, Stopwatch, write_text_atomically
from segzoo.training import checkpoints
from segzoo.training.batches import READERS
from segzoo.training.journal import Journal
from segzoo.training.loop import fit
from segzoo.training.memory_saving import checkpoint_activations
from segzoo.training.plan import Plan, images_per_device
from segzoo.training.record import RECORD, draw_curves, training_run
from segzoo.training.sync_batch_norm import share_batch_norms
from segzoo.training.task import Task
from segzoo.zoo.schema import Recipe


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train, apart from the recipe; a field that is None follows recipe or entry.

    Attributes:
        work_dir: where the run is kept; runs/NAME where None.
        dataset: another data set, by name or folder.
        data_root: where its files are.
        protocol: name of another test protocol.
        init: see `initial_model`.
        resume: "auto" continues what is in the work directory, "no" refuses to, a path continues that checkpoint.
        pictures: train on the first pictures only.
        per_device: images that a device runs at once; the rest of the batch follows in further parts.
        evaluate_every: 0 evaluates at the end only, -1 never; a tenth of the iterations where None.
        save_every: a twentieth of the iterations where None.
        dtype: "fp32", "tf32", "bf16", "fp16".
    """

    work_dir: Path | None = None
    dataset: str | Path | None = None
    data_root: Path | None = None
    protocol: str | None = None
    init: str = "auto"
    reset_classifier: bool = False
    resume: str = "auto"
    seed: int = 0
    pictures: int | None = None
    per_device: int | None = None
    workers: int = 1
    device: str = "auto"
    dtype: str | None = None
    compile: bool = False
    channels_last: bool = False
    activation_checkpointing: bool = False
    log_every: int = 50
    evaluate_every: int | None = None
    evaluate_limit: int | None = None
    save_every: int | None = None
    keep: int = 2
    tensorboard: bool = False
    quiet: bool = False
    bar: bool = True


def make_plan(name: str, recipe: Recipe, options: Options, group: Group, facts: dict[str, Any]) -> Plan:
    """The plan of a run.

    Args:
        facts: what decides the result beside recipe and options, plain JSON.

    Raises:
        UsageError: the batch does not divide.
    """
    tenth, twentieth = max(1, recipe.iterations // 10), max(1, recipe.iterations // 20)
    dtype = chosen_dtype(recipe, options, group)
    words = {key: value for key, value in msgspec.to_builtins(recipe).items() if key != "source"}
    return Plan(
        work_dir=work_dir_of(name, options),
        iterations=recipe.iterations,
        batch_size=recipe.batch_size,
        processes=group.size,
        per_device=images_per_device(recipe.batch_size, group.size, options.per_device),
        workers=options.workers,
        seed=options.seed,
        dtype=dtype,
        clip_norm=recipe.clip_norm,
        log_every=options.log_every,
        evaluate_every=tenth if options.evaluate_every is None else options.evaluate_every,
        save_every=twentieth if options.save_every is None else options.save_every,
        keep=options.keep,
        # Processes and parts are not among them: they change nothing but rounding.
        settings={"model": name, **words, "init": options.init, "seed": options.seed, "dtype": dtype, **facts},
    )


def work_dir_of(name: str, options: Options) -> Path:
    """Where the run is kept."""
    return options.work_dir or Path("runs") / name.replace("/", "-")


def chosen_dtype(recipe: Recipe, options: Options, group: Group) -> str:
    """The number format: the recipe's, but fp32 for a recipe of fp16 that runs on no GPU."""
    if options.dtype is not None:
        return options.dtype
    return "fp32" if recipe.precision == "fp16" and group.device.type != "cuda" else recipe.precision


@contextmanager
def sole_process(work_dir: Path, group: Group) -> Iterator[None]:
    """The first process holds the work directory for the whole group and clears what a killed run left."""
    if not group.main:
        yield
        return
    with checkpoints.sole_user(work_dir):
        checkpoints.remove_leftovers(work_dir)
        yield


def checkpoint_to_resume(plan: Plan, resume: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The checkpoint to continue from, and what there is to say about it.

    Raises:
        UsageError: it is of another run, or absent, or there is one and `resume` is "no".
        IntegrityError: the one that was named is not whole.
    """
    if resume not in ("auto", "no"):
        path = Path(resume)
        if not path.is_file():
            raise UsageError(f"--resume {resume}: neither a file nor one of auto, no")
        content = checkpoints.read_checkpoint(path)
        passed: list[str] = []
    else:
        found = checkpoints.newest_checkpoint(plan.work_dir)
        if found is None:
            return None, []
        path, content, passed = found
        if resume == "no":
            raise UsageError(f"{plan.work_dir} holds a run (--resume no); delete it or choose another --work-dir")
    checkpoints.check_same_run(path, content, plan.settings)
    return content, [*passed, f"continues from {path}, after iteration {content['iteration']}"]


def placed(model: nn.Module, recipe: Recipe, options: Options, group: Group) -> nn.Module:
    """The model on its device, with what the recipe and the options ask of its modules."""
    # All that the loop needs is compiled before it: in the loop a signal is a wish, and a compiler takes its time.
    kernels.load_for(model, group.device)
    kernels.load(only=READERS)
    model = model.to(group.device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if recipe.sync_batch_norm and group.size > 1:
        model = share_batch_norms(model, group.device)
    if options.activation_checkpointing:
        checkpoint_activations(model)
    return model


def run_task(
    command: str,
    name: str,
    task: Task,
    plan: Plan,
    options: Options,
    group: Group,
    stop: StopWish,
    resumed: dict[str, Any] | None,
    sentences: list[str],
) -> Run:
    """Runs the loop and returns its record.

    Raises:
        see `fit`.
    """
    watch = Stopwatch()
    journal = Journal(
        plan.work_dir,
        iterations=plan.iterations,
        start=resumed["iteration"] if resumed else 0,
        bar=options.bar and not options.quiet,
        tensorboard=options.tensorboard,
        speaks=group.main,
        quiet=options.quiet,
        score=task.score,
    )
    try:
        for sentence in sentences:
            journal.say(sentence)
        state = fit(task, plan, group, journal, resumed, stop)
        run = training_run(command, name, task, plan, state, group, watch, [])
        if group.main and (missing := draw_curves(plan, task.score)):
            journal.say(missing)
    finally:
        journal.close()
    return run


def keep_record(run: Run, task: Task, plan: Plan, group: Group) -> None:
    """Writes the last weights and the record into the work directory."""
    if group.main:
        checkpoints.save_atomically(plan.work_dir / checkpoints.FINAL, {"model": task.model.state_dict()})
        write_text_atomically(plan.work_dir / RECORD, run.to_json() + "\n")
