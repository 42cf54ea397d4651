"""What would stop a run later and can be known before its first iteration: disk, crop; memory: trial.py."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from torch import nn

from segzoo.errors import SegzooError, UsageError

# AdamW keeps two numbers for each weight, and a checkpoint the weight itself.
NUMBERS_PER_WEIGHT = {"adamw": 3, "sgd": 2}


def check_disk(folder: Path, model: nn.Module, optimizer: str, keep: int) -> None:
    """Room for the checkpoints that are kept, one that is being written, and the best and final weights.

    Raises:
        SegzooError: too little is free.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    needed = weights * (NUMBERS_PER_WEIGHT[optimizer] * (keep + 1) + 3)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise SegzooError(
            f"{folder} has {free / 2**20:.0f} MiB free, but {keep + 1} checkpoints need {needed / 2**20:.0f} MiB; "
            "free some, choose another --work-dir or a smaller --keep"
        )


def memory_bytes(device: torch.device) -> int | None:
    """The whole memory of a device; None where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def check_crop(crop: tuple[int, int]) -> None:
    """A crop that every backbone's strides leave pixels of.

    Raises:
        UsageError: a side below 32 pixels.
    """
    if min(crop) < 32:
        raise UsageError(f"impossible crop {crop[0]}x{crop[1]}: both sides need at least 32 pixels")


def less_memory(size_option: str) -> str:
    """What to do where a step does not fit into memory; `size_option` is the one for the pictures' height and width."""
    return (
        "use a smaller --per-device (the batch stays what it is), --activation-checkpointing, or a smaller "
        f"{size_option}"
    )
