"""The record of a training, and the curves beside it."""

from __future__ import annotations

from typing import Any

import torch

from segzoo import kernels
from segzoo.device import device_name
from segzoo.errors import UnavailableError
from segzoo.processes.group import Group
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.training.journal import LOG, column, read_log
from segzoo.training.loop import State
from segzoo.training.pictures import write_curves
from segzoo.training.plan import Plan
from segzoo.training.task import Task

RECORD = "record.json"


def training_run(
    command: str, name: str, task: Task, plan: Plan, state: State, group: Group, watch: Stopwatch, notes: list[str]
) -> Run:
    """What came of a training: the last and the best score, from the log, which an interrupted run shares."""
    lines = read_log(plan.work_dir / LOG)
    losses, scores, speeds = (column(lines, key)[1] for key in ("loss", task.score, "images_per_second"))
    metrics: dict[str, Any] = {
        task.score: scores[-1] if scores else None,
        f"best_{task.score}": state.best.get(task.score),
        "best_iteration": state.best.get("iteration"),
        "loss": losses[-1] if losses else None,
        "iterations": state.iteration,
        "images_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
    }
    return Run(
        command=command,
        model={"name": name, "params": sum(item.numel() for item in task.model.parameters())},
        metrics=metrics,
        conditions={
            **plan.settings,
            "work_dir": str(plan.work_dir),
            "processes": plan.processes,
            "per_device": plan.per_device,
            "accumulate": plan.accumulate,
            "device": str(group.device),
            "threads": torch.get_num_threads(),
            "kernels": kernels.describe(group.device),
        },
        notes=[*notes, *kernels.notes()],
        environment=environment(device_name(group.device)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def draw_curves(plan: Plan, score: str) -> str | None:
    """Writes curves.png; returns what is missing where it cannot be drawn."""
    try:
        write_curves(plan.work_dir / LOG, plan.work_dir / "curves.png", [score])
    except UnavailableError as error:
        return str(error)
    return None
