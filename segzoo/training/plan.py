"""The plan of a training: how many iterations of which batch, split over processes and steps, and what is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the loop does, apart from the model and the data.

    Attributes:
        work_dir: log, checkpoints, pictures and record lie in it.
        iterations: optimiser steps of the whole run.
        batch_size: images of one step, over all processes and parts.
        processes: number of training processes.
        per_device: images that a process runs at once.
        workers: reading processes of each training process; 0 reads in the training process.
        dtype: "fp32", "tf32", "bf16" or "fp16" (with loss scaling).
        clip_norm: largest norm of the gradient.
        log_every, evaluate_every, save_every: in iterations; 0 is at the end only, and -1 (for evaluations) never.
        keep: number of checkpoints.
        settings: all that decides the result, for the comparison with a checkpoint; plain JSON.
    """

    work_dir: Path
    iterations: int
    batch_size: int
    processes: int = 1
    per_device: int
    workers: int = 0
    seed: int = 0
    dtype: str = "fp32"
    clip_norm: float | None = None
    log_every: int = 50
    evaluate_every: int = 0
    save_every: int = 0
    keep: int = 2
    settings: dict[str, Any]

    @property
    def accumulate(self) -> int:
        """Parts of a step, one after the other, whose gradients are added."""
        return self.batch_size // (self.processes * self.per_device)

    def due(self, every: int, iteration: int) -> bool:
        """Whether something done every `every` iterations (-1: never) is due after `iteration` of them."""
        return every >= 0 and (iteration == self.iterations or (every > 0 and iteration % every == 0))


def images_per_device(batch_size: int, processes: int, wanted: int | None) -> int:
    """How many images a process runs at once, so that all of them make up the batch.

    Args:
        batch_size: images of an iteration.
        processes: number of training processes.
        wanted: the user's number; the whole share of a process where None.

    Raises:
        UsageError: the batch does not divide.
    """
    share, rest = divmod(batch_size, processes)
    if rest or share == 0:
        raise UsageError(
            f"a batch of {batch_size} does not divide by {processes} processes; choose a --batch-size that is a "
            f"multiple of {processes}, or another number of processes"
        )
    if wanted is None:
        return share
    if share % wanted:
        fits = [number for number in range(1, share + 1) if share % number == 0]
        what = f"a batch of {batch_size}" if processes == 1 else f"{share} images of {batch_size} for each process"
        raise UsageError(f"{what}: not a multiple of --per-device {wanted}; these fit: {', '.join(map(str, fits))}")
    return wanted


def seed_of(*numbers: int) -> int:
    """A seed of 32 bits for a few numbers, other for every other choice of them."""
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "little")
