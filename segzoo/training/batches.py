"""What the loop is fed with: training samples in an order that is a pure function of the seed, as uint8 batches.

Sample number n of a run (counted over all iterations and processes) is always the same crop of the same picture,
whatever the number of processes and workers and wherever the run was interrupted. Nothing random has a state.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segzoo import kernels
from segzoo.errors import SegzooError
from segzoo.training.plan import Plan

_ORDER, _AUGMENTATION = 0, 1


class Item(NamedTuple):
    """One sample: uint8 RGB [h, w, 3] at most as large as the crop; label maps [h, w] or [h, w, n], or an index []."""

    name: str
    image: NDArray[np.uint8]
    target: NDArray[Any]


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


class Source(Protocol):
    """Where samples come from."""

    def __len__(self) -> int: ...

    def item(self, index: int, draws: np.random.Generator) -> Item:
        """The sample of picture `index` for these draws."""
        ...


class Samples(Dataset[Item | SegzooError]):
    """The endless series of samples: each pass over the pictures in an order of its own."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source = source
        self.seed = seed
        self._pass: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, number: int) -> Item | SegzooError:
        """Sample `number`; a fault of the data comes back as a value, for a worker would wrap it in a traceback."""
        draws = np.random.default_rng([self.seed, _AUGMENTATION, number])
        try:
            return self.source.item(self.picture(number), draws)
        except SegzooError as error:
            return error

    def picture(self, number: int) -> int:
        """The index of the picture that sample `number` is cut from."""
        turn, place = divmod(number, len(self.source))
        if self._pass is None or self._pass[0] != turn:
            order = np.random.default_rng([self.seed, _ORDER, turn]).permutation(len(self.source))
            self._pass = turn, order
        return int(self._pass[1][place])


class _Numbers:
    """The numbers of the samples of one process, a list for each of its batches, from an iteration on."""

    def __init__(self, plan: Plan, rank: int, first: int) -> None:
        self.plan, self.rank, self.first = plan, rank, first

    def __len__(self) -> int:
        return (self.plan.iterations - self.first) * self.plan.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        each, processes = self.plan.per_device, self.plan.processes
        for iteration in range(self.first, self.plan.iterations):
            for part in range(self.plan.accumulate):
                start = iteration * self.plan.batch_size + (part * processes + self.rank) * each
                yield list(range(start, start + each))


class Collate:
    """Lays samples side by side in arrays of the crop's size; `fill` is the label of the padding."""

    def __init__(self, crop: tuple[int, int], fill: int) -> None:
        self.crop, self.fill = crop, fill

    def __call__(self, items: list[Item | SegzooError]) -> Batch | SegzooError:
        """The batch of the samples, or the first fault among them."""
        good = [item for item in items if isinstance(item, Item)]
        if len(good) < len(items):
            return next(item for item in items if isinstance(item, SegzooError))
        image = np.zeros((len(good), *self.crop, 3), np.uint8)
        kind = good[0].target.dtype
        # A class index has no sides, a label map has two, and more values a pixel make a third.
        shape = (*self.crop, *good[0].target.shape[2:]) if good[0].target.ndim else ()
        target = np.full((len(good), *shape), self.fill, kind)
        for place, item in enumerate(good):
            height, width = item.image.shape[:2]
            image[place, :height, :width] = item.image
            if shape:
                target[place, :height, :width] = item.target
            else:
                target[place] = item.target
        if kind == np.uint16:
            target = target.astype(np.int32)
        extent = torch.tensor([item.image.shape[:2] for item in good])
        return Batch(torch.from_numpy(image), torch.from_numpy(target), extent, [item.name for item in good])


@contextmanager
def batches(
    source: Source, collate: Collate, plan: Plan, *, rank: int, first: int, pin_memory: bool = False
) -> Iterator[Iterator[Batch | SegzooError]]:
    """The batches of one process from iteration `first` to the end, read ahead by `plan.workers` processes.

    The workers end with the body, whatever ends it.
    """
    # Crops are cut on the CPU wherever the network is; forked workers have what is loaded here.
    kernels.load()
    loader: DataLoader[Any] = DataLoader(
        Samples(source, plan.seed),
        batch_sampler=_Numbers(plan, rank, first),
        num_workers=plan.workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_begin_worker,
        prefetch_factor=4 if plan.workers else None,
    )
    iterator = iter(loader)
    try:
        yield iterator
    finally:
        # Workers do not end by SIGTERM (see below), so nothing may be left to garbage collection or to the
        # interpreter's exit, which would wait for them for ever.
        stop_workers = getattr(iterator, "_shutdown_workers", None)
        if stop_workers is not None:
            stop_workers()


def _begin_worker(number: int) -> None:
    """A worker reads with one thread, and leaves signals to the process that writes the checkpoint."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    kernels.load()  # Where workers are not forked; what is compiled is there already.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class ToDevice:
    """Batches as the network's input: sent as uint8, then normalised on the device.

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
        self.mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(std, device=device).view(3, 1, 1)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(float32 [B, 3, H, W] normalised, with zeros in the padding; int64 targets)."""
        pixels = batch.image.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        pixels = pixels.to(torch.float32, memory_format=self.layout).sub_(self.mean).div_(self.std)
        height, width = batch.image.shape[1:3]
        for place, (rows, columns) in enumerate(batch.extent.tolist()):
            # The published pipeline pads after normalising: the padding is the mean colour, not black.
            pixels[place, :, rows:] = 0.0
            if columns < width:
                pixels[place, :, :, columns:] = 0.0
            assert rows <= height
        return pixels, batch.target.to(self.device, non_blocking=True).long()
