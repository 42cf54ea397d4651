"""The loop: read it from top to bottom. Segmentation and pretraining differ in their Task alone."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segzoo.device import precision
from segzoo.errors import SegzooError
from segzoo.processes.endings import InterruptedRunError, NotFiniteError, StopWish
from segzoo.processes.group import Group
from segzoo.training import checkpoints, checks
from segzoo.training.batches import Batch, batches
from segzoo.training.journal import Journal
from segzoo.training.plan import Plan, seed_of
from segzoo.training.schedule import set_learning_rates
from segzoo.training.task import Task

_NAMES_SHOWN = 8


@dataclass
class State:
    """Where a run stands, beside the weights and the optimiser.

    Attributes:
        iteration: number of iterations done.
        best: measures of the best evaluation with its iteration, or empty.
        window: losses since the last line of the log.
    """

    iteration: int = 0
    best: dict[str, float] = field(default_factory=dict)
    window: list[float] = field(default_factory=list)


def fit(
    task: Task, plan: Plan, group: Group, journal: Journal, resumed: dict[str, Any] | None, stop: StopWish
) -> State:
    """Trains to the end of the plan; what it did can be continued from the checkpoints on the way.

    Args:
        resumed: the content of a checkpoint to continue from.
        stop: set by a signal; the loop then writes a checkpoint and ends.

    Raises:
        InterruptedRunError: `stop` was set.
        SegzooError: the loss or the gradient is no number; a file cannot be written; out of memory.
    """
    scaler = torch.amp.GradScaler(group.device.type, enabled=plan.dtype == "fp16")
    state = State() if resumed is None else _restore(resumed, task, scaler)
    network = _distributed(task, group)
    with batches(task.source, task.collate, plan, rank=group.rank, first=state.iteration) as loader:
        _iterate(task, network, scaler, plan, group, journal, state, stop, loader)
    return state


def _iterate(
    task: Task,
    network: nn.Module,
    scaler: torch.amp.GradScaler,
    plan: Plan,
    group: Group,
    journal: Journal,
    state: State,
    stop: StopWish,
    loader: Iterator[Batch | SegzooError],
) -> None:
    """From where `state` stands to the end of the plan."""
    parameters = [parameter for part in task.optimizer.param_groups for parameter in part["params"]]
    clock = time.perf_counter()
    in_training = False
    while True:
        if state.iteration > 0 and plan.due(plan.evaluate_every, state.iteration):
            _evaluate(task, plan, group, journal, state, stop)
            clock, in_training = time.perf_counter(), False
        if state.iteration == plan.iterations:
            return
        if not in_training or state.iteration == task.settled_from:
            task.train_mode(state.iteration)
            in_training = True

        rate = set_learning_rates(task.optimizer.param_groups, task.recipe, state.iteration)
        task.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        names: list[str] = []
        for part in range(plan.accumulate):
            batch = next(loader)
            if isinstance(batch, SegzooError):
                raise batch
            names += batch.names
            _seed(plan.seed, state.iteration, part, group.rank)
            last = part == plan.accumulate - 1
            with _together(network, last), _memory_words(batch, task.size_option):
                with precision(group.device, plan.dtype):
                    terms = network(*task.to_device(batch))
                loss = torch.stack(list(terms.values())).sum() / plan.accumulate
                scaler.scale(loss).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach() / plan.accumulate
        scaler.unscale_(task.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # One sum tells every process about every other: losses, trouble and a wish to stop.
        mine = [float(value) for value in sums.values()]
        trouble = not math.isfinite(sum(mine)) or (not scaler.is_enabled() and not math.isfinite(float(norm)))
        *totals, troubled, stopping = group.total([*mine, float(trouble), float(stop.signal_number)])
        if troubled:
            raise _not_finite(plan, group, state.iteration, sum(mine), float(norm), names if trouble else [])
        if plan.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, plan.clip_norm, norm)
        scaler.step(task.optimizer)
        scaler.update()
        state.iteration += 1

        means = {name: value / group.size for name, value in zip(sums, totals, strict=True)}
        state.window.append(sum(means.values()))
        now = time.perf_counter()
        speed, clock = plan.batch_size / (now - clock), now
        journal.step(state.iteration, state.window[-1], rate, speed)
        if plan.due(plan.log_every, state.iteration):
            mean = sum(state.window) / len(state.window)
            state.window.clear()
            journal.write(
                state.iteration,
                loss=mean,
                lr=rate,
                grad_norm=float(norm),
                images_per_second=round(speed, 3),
                **({f"loss_{name}": value for name, value in means.items()} if len(means) > 1 else {}),
            )
        # Before an evaluation too: it may take long, and nothing before it should be lost.
        due = plan.due(plan.save_every, state.iteration) or plan.due(plan.evaluate_every, state.iteration)
        if (due or stopping) and group.main:
            _save(task, plan, scaler, state)
        if stopping:
            _interrupt(plan, group, state, stop)


def _restore(content: dict[str, Any], task: Task, scaler: torch.amp.GradScaler) -> State:
    task.model.load_state_dict(content["model"])
    task.optimizer.load_state_dict(content["optimizer"])
    if scaler.is_enabled():
        scaler.load_state_dict(content["scaler"])
    return State(content["iteration"], content["best"], content["window"])


def _save(task: Task, plan: Plan, scaler: torch.amp.GradScaler, state: State) -> None:
    content = {
        "format": checkpoints.FORMAT,
        "settings": plan.settings,
        "iteration": state.iteration,
        "best": state.best,
        "window": state.window,
        "scaler": scaler.state_dict(),
        "model": task.model.state_dict(),
        "optimizer": task.optimizer.state_dict(),
    }
    checkpoints.save_atomically(checkpoints.checkpoint_path(plan.work_dir, state.iteration), content)
    checkpoints.prune(plan.work_dir, plan.keep)


def _evaluate(task: Task, plan: Plan, group: Group, journal: Journal, state: State, stop: StopWish) -> None:
    began = time.perf_counter()
    measures = task.validate(state.iteration, stop)
    if measures is None:
        _interrupt(plan, group, state, stop)
        return
    journal.write(state.iteration, **measures, evaluation_seconds=round(time.perf_counter() - began, 3))
    score = measures[task.score]
    journal.say(f"iteration {state.iteration}: {task.score} {'-' if score is None else f'{score:.2f}'}")
    if score is not None and score > state.best.get(task.score, -math.inf):
        state.best = {"iteration": state.iteration, task.score: score}
        if group.main:
            checkpoints.save_atomically(plan.work_dir / checkpoints.BEST, {"model": task.model.state_dict()})


def _interrupt(plan: Plan, group: Group, state: State, stop: StopWish) -> None:
    """Ends the run after its checkpoint was written; all processes agree on the signal."""
    number = max(group.gather(stop.signal_number))
    raise InterruptedRunError(
        f"stopped after iteration {state.iteration} of {plan.iterations}; the same command continues from "
        f"{checkpoints.checkpoint_path(plan.work_dir, state.iteration)}",
        number,
    )


def _distributed(task: Task, group: Group) -> nn.Module:
    if group.size == 1:
        return task.losses
    return DistributedDataParallel(
        task.losses,
        device_ids=[group.device.index] if group.device.type == "cuda" else None,
        # A search in every iteration, and a warning where it is not needed.
        find_unused_parameters=_has_unused(task),
        gradient_as_bucket_view=True,
    )


def _has_unused(task: Task) -> bool:
    """Whether no loss depends on some trained parameter, as in a few published models; two samples tell."""
    draws = np.random.default_rng(0)
    batch = task.collate([task.source.item(0, draws), task.source.item(0, draws)])
    if isinstance(batch, SegzooError):
        raise batch
    # In evaluation mode no statistics of batch norms change, and no branch is skipped by chance.
    task.losses.eval()
    torch.stack(list(task.losses(*task.to_device(batch)).values())).sum().backward()
    unused = any(parameter.grad is None for parameter in task.losses.parameters() if parameter.requires_grad)
    task.optimizer.zero_grad(set_to_none=True)
    return unused


def _together(network: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Processes exchange gradients with the last part of a step only."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return contextlib.nullcontext()


def _seed(seed: int, iteration: int, part: int, rank: int) -> None:
    """Dropout, drop path and mixing depend on where the run is and on nothing that happened before."""
    value = seed_of(seed, iteration, part, rank)
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value)


@contextlib.contextmanager
def _memory_words(batch: Batch, size_option: str) -> Iterator[None]:
    """Says in one line what does not fit into memory."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        words = ("allocate memory", "not enough memory", "out of memory")
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
            raise
        images, height, width = batch.image.shape[:3]
        raise SegzooError(
            f"out of memory for {images} images of {height}x{width}; {checks.less_memory(size_option)}"
        ) from error


def _not_finite(plan: Plan, group: Group, iteration: int, loss: float, norm: float, names: list[str]) -> NotFiniteError:
    everyone = [name for part in group.gather(names) for name in part]
    shown = ", ".join(everyone[:_NAMES_SHOWN]) + (" ..." if len(everyone) > _NAMES_SHOWN else "")
    good: Path | None = next(iter(checkpoints.checkpoints(plan.work_dir)), None)
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    return NotFiniteError(
        f"{what} in iteration {iteration + 1}, with the images {shown}; the last good checkpoint is "
        f"{good or 'none yet'}; try a smaller --lr or --dtype fp32"
    )
