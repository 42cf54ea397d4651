"""What the loop is fed with: batches of bytes, read ahead by processes of their own, and sent to the device as bytes.

Reading processes lay their samples out in memory that they share with the training process from the beginning. What
they send for a batch is its number, so that no picture is copied from one process to the other, and no memory is
asked for, cleared and handed back for each batch.
"""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segzoo import kernels
from segzoo.errors import SegzooError, UsageError
from segzoo.kernels.training_crop import normalised_crops
from segzoo.training.plan import Plan
from segzoo.training.samples import Item, Samples, Source

READERS = ("training_crop", "png_rows")
"""Kernels that read pictures, on the CPU wherever the network is."""
_AHEAD = 4
_CACHE_LINE = 64
_SHARED_MEMORY = Path("/dev/shm")


class Batch(NamedTuple):
    """Samples side by side, padded at the bottom and right, still uint8.

    Attributes:
        image: uint8 [B, H, W, 3].
        target: class indices [B, H, W], [B, H, W, n] or [B].
        extent: height and width of each sample without its padding, int64 [B, 2].
        names: of the samples.
    """

    image: Tensor
    target: Tensor
    extent: Tensor
    names: list[str]


class _Task(NamedTuple):
    """The samples of batch `number` of one process, by their numbers in the whole run."""

    number: int
    samples: range


class _Filled(NamedTuple):
    """A batch that lies in the shared memory: all of it that does not."""

    number: int
    extent: list[tuple[int, int]]
    names: list[str]


class Collate:
    """Lays samples side by side in arrays of the crop's size.

    Args:
        crop: (height, width).
        fill: the label of the padding.
        dtype: of the targets; 16 bits become int32, as PyTorch does little with uint16.
        layers: what a pixel of a target is: () a number, (3,) three of them; None where a sample has one number.
    """

    def __init__(
        self,
        crop: tuple[int, int],
        fill: int,
        dtype: DTypeLike = np.uint8,
        layers: tuple[int, ...] | None = (),
    ) -> None:
        self.crop, self.fill = crop, fill
        self.dtype = np.dtype(np.int32 if np.dtype(dtype) == np.uint16 else dtype)
        self.layers = layers

    def __call__(
        self, items: Sequence[Item | SegzooError], memory: NDArray[np.uint8] | None = None
    ) -> Batch | SegzooError:
        """The batch of the samples, or the first fault among them.

        Args:
            memory: `bytes_of(len(items))` bytes that the batch is to lie in; its own where None.
        """
        if memory is None:
            memory = np.empty(self.bytes_of(len(items)), np.uint8)
        extent = self.lay_out(items, memory)
        if isinstance(extent, SegzooError):
            return extent
        return self.batch(memory, extent, [item.name for item in items if isinstance(item, Item)])

    def bytes_of(self, count: int) -> int:
        """Memory of a batch of `count` samples, a whole number of cache lines."""
        image, target = self._sizes(count)
        return image + target

    def lay_out(
        self, items: Sequence[Item | SegzooError], memory: NDArray[np.uint8]
    ) -> list[tuple[int, int]] | SegzooError:
        """Writes samples to `memory`, `bytes_of(len(items))` bytes; their extents, or the first fault among them."""
        image, target = self._arrays(memory, len(items))
        extent = []
        for place, item in enumerate(items):
            if isinstance(item, SegzooError):
                return item
            height, width = item.image.shape[:2]
            image[place, :height, :width] = item.image
            if self.layers is None:
                target[place] = item.target
            else:
                target[place, :height, :width] = item.target
                target[place, height:] = self.fill
                target[place, :height, width:] = self.fill
            image[place, height:] = 0
            image[place, :height, width:] = 0
            extent.append((height, width))
        return extent

    def batch(self, memory: NDArray[np.uint8], extent: list[tuple[int, int]], names: list[str]) -> Batch:
        """The batch that lies in `memory`, over the same memory."""
        image, target = self._arrays(memory, len(names))
        return Batch(torch.from_numpy(image), torch.from_numpy(target), torch.tensor(extent), names)

    def _sizes(self, count: int) -> tuple[int, int]:
        """Bytes of the images and of the targets."""
        pixels = count * self.crop[0] * self.crop[1]
        numbers = count if self.layers is None else pixels * math.prod(self.layers)
        return _whole_lines(3 * pixels), _whole_lines(numbers * self.dtype.itemsize)

    def _arrays(self, memory: NDArray[np.uint8], count: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """(images [count, H, W, 3], targets) over `memory`."""
        begin, _ = self._sizes(count)
        shape = (count,) if self.layers is None else (count, *self.crop, *self.layers)
        image = memory[: count * self.crop[0] * self.crop[1] * 3].reshape(count, *self.crop, 3)
        target = memory[begin : begin + math.prod(shape) * self.dtype.itemsize].view(self.dtype).reshape(shape)
        return image, target


def _whole_lines(size: int) -> int:
    return -(-size // _CACHE_LINE) * _CACHE_LINE


@contextmanager
def batches(
    source: Source, collate: Collate, plan: Plan, *, rank: int, first: int
) -> Iterator[Iterator[Batch | SegzooError]]:
    """The batches of one process from iteration `first` to the end, read ahead by `plan.workers` processes.

    A batch is good until the next one is asked for. The workers end with the body, whatever ends it.

    Raises:
        UsageError: there is not enough shared memory for as many workers.
    """
    kernels.load(only=READERS)  # Forked workers have what is loaded here.
    samples, tasks = Samples(source, plan.seed), _Tasks(plan, rank, first)
    size = collate.bytes_of(plan.per_device)
    if plan.workers == 0:
        memory = np.empty(size, np.uint8)
        yield (collate([samples[number] for number in task.samples], memory) for task in tasks)
        return
    # One batch is in use while the others are read.
    slots = _shared_memory(plan.workers * _AHEAD + 1, size)
    loader: DataLoader[Any] = DataLoader(
        _Reader(samples, collate, slots),
        batch_size=None,
        sampler=tasks,
        num_workers=plan.workers,
        collate_fn=_unchanged,  # type: ignore[arg-type]
        worker_init_fn=_begin_worker,
        prefetch_factor=_AHEAD,
    )
    iterator = iter(loader)
    try:
        yield (_received(filled, collate, slots) for filled in iterator)
    finally:
        # Workers do not end by SIGTERM (see below), so nothing may be left to garbage collection or to the
        # interpreter's exit, which would wait for them for ever.
        iterator._shutdown_workers()  # type: ignore[attr-defined]


class _Tasks:
    """The batches of one process, from an iteration on."""

    def __init__(self, plan: Plan, rank: int, first: int) -> None:
        self.plan, self.rank, self.first = plan, rank, first

    def __len__(self) -> int:
        return (self.plan.iterations - self.first) * self.plan.accumulate

    def __iter__(self) -> Iterator[_Task]:
        each, processes = self.plan.per_device, self.plan.processes
        number = 0
        for iteration in range(self.first, self.plan.iterations):
            for part in range(self.plan.accumulate):
                start = iteration * self.plan.batch_size + (part * processes + self.rank) * each
                yield _Task(number, range(start, start + each))
                number += 1


class _Reader(Dataset[_Filled | SegzooError]):
    """What a reading process does for a batch. The slots are used in turn, one batch each."""

    def __init__(self, samples: Samples, collate: Collate, slots: Tensor) -> None:
        self.samples, self.collate, self.slots = samples, collate, slots

    def __getitem__(self, task: _Task) -> _Filled | SegzooError:
        """Reads a batch into its slot."""
        items = [self.samples[number] for number in task.samples]
        extent = self.collate.lay_out(items, _slot(self.slots, task.number))
        if isinstance(extent, SegzooError):
            return extent
        return _Filled(task.number, extent, [item.name for item in items if isinstance(item, Item)])


def _unchanged(filled: _Filled | SegzooError) -> _Filled | SegzooError:
    return filled


def _received(filled: _Filled | SegzooError, collate: Collate, slots: Tensor) -> Batch | SegzooError:
    if isinstance(filled, SegzooError):
        return filled
    return collate.batch(_slot(slots, filled.number), filled.extent, filled.names)


def _slot(slots: Tensor, number: int) -> NDArray[np.uint8]:
    slot: NDArray[np.uint8] = slots[number % len(slots)].numpy()
    return slot


def _shared_memory(count: int, size: int) -> Tensor:
    """Memory for `count` batches of `size` bytes that processes started later share: uint8 [count, size]."""
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < count * size:
        raise UsageError(
            f"reading ahead takes {count * size / 2**20:.0f} MiB of shared memory and {_SHARED_MEMORY} has "
            f"{free / 2**20:.0f}; use fewer --workers, a smaller --per-device, or give it more (docker run --shm-size)"
        )
    return torch.empty(count, size, dtype=torch.uint8).share_memory_()


def _begin_worker(number: int) -> None:
    """A worker reads with one thread, and leaves signals to the process that writes the checkpoint."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    kernels.load(only=READERS)  # Where workers are not forked; what is compiled is there already.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class ToDevice:
    """Batches as the network's input, in memory of their own: sent as uint8, then normalised on the device.

    Args:
        device: where the network is.
        mean, std: by channel, in 0..255.
        channels_last: memory layout of the result.
    """

    def __init__(
        self,
        device: torch.device,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        channels_last: bool,
    ) -> None:
        self.device = device
        self.mean, self.std = mean, std
        self.channels_last = channels_last

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(float32 [B, 3, H, W] normalised, with zeros in the padding; int64 targets).

        The published pipeline pads after normalising: the padding is the mean colour, not black.
        """
        image, target = batch.image, batch.target
        if self.device.type == "cuda":
            # Copies that the device takes while the next batch is laid out in the same place.
            image, target = image.pin_memory(), target.pin_memory()
        image = image.to(self.device, non_blocking=True)
        pixels = normalised_crops(image, batch.extent, self.mean, self.std, channels_last=self.channels_last)
        return pixels, target.to(self.device, non_blocking=True).to(torch.int64, copy=True)
