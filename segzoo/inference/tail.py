"""Logits -> labels: the one place where maps of logits become class indices at the image's size.

The image is worked through in tiles whose values of all classes fit into a core's cache: two small matrix products
(resampling.py) upsample, and the best class is found, or the softmax is added up, before the tile is left. So the
probabilities of the whole image at full size, 200 MB for 150 classes on a small picture, need not exist.

Letters: h, w rows and columns of a logit map; C classes; T, S rows and columns of a tile.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from segzoo.device import precision
from segzoo.inference.resampling import Block, Side, blocks

_CPU_TILE_VALUES = 160_000
_CPU_TILE_COLUMNS = 64
_DEVICE_TILE_VALUES = 32_000_000
# More would wait for Python's lock.
_MOST_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class LogitMap:
    """The logits of one view of an image.

    Attributes:
        values: float32 [h, C, w], contiguous; the maps of several windows stand side by side, in rows and columns.
        rows: how h becomes the image's height.
        columns: how w becomes the image's width.
    """

    values: Tensor
    rows: Side
    columns: Side

    @property
    def bytes(self) -> int:
        """Memory of the values."""
        return self.values.numel() * self.values.element_size()


def label_map(groups: Iterable[Sequence[LogitMap]], *, views: int) -> Tensor:
    """The class index of every pixel: [H, W] on the CPU, uint8 up to 256 classes, else int32.

    Of one view the class with the largest logit, of several that with the largest mean softmax
    probability, summed in float32 in the order of the views. The lowest index wins a tie.

    Args:
        groups: the views of an image, in order, in groups that are worked off together. One group keeps
            no more than a tile of probabilities, several need one full-size sum.
        views: how many there are in all groups.
    """
    labels: Tensor | None = None
    sums: dict[tuple[int, int], Tensor] = {}
    done = 0
    for maps in groups:
        done += len(maps)
        labels = _empty_labels(maps[0]) if labels is None else labels
        _in_threads(_Work(maps=maps, labels=labels, sums=sums, views=views, last=done == views))
    if labels is None or done != views:
        raise ValueError(f"{done} views where {views} were announced")
    return labels


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A group of views, where its labels or sums of probabilities go, and whether it is the last."""

    maps: Sequence[LogitMap]
    labels: Tensor
    sums: dict[tuple[int, int], Tensor]
    views: int
    last: bool

    def rows(self, tiles: _Tiles, numbers: Iterator[int]) -> None:
        """Works off rows of tiles until there are no more numbers."""
        with torch.inference_mode(), _plain_float32(self.maps[0].values.device):
            for row in numbers:
                for column, pairs in enumerate(tiles.blocks_of_row(row)):
                    self._tile(tiles, (row, column), pairs)

    def _tile(self, tiles: _Tiles, place: tuple[int, int], pairs: list[tuple[Block, Block]]) -> None:
        rows, columns = pairs[0]
        if self.views == 1:
            scores = tiles.logits(self.maps[0], rows, columns)
        else:
            scores = tiles.summed_probabilities(self.maps, pairs, self.sums.pop(place, None))
        if not self.last:
            self.sums[place] = scores.clone()
            return
        best = tiles.first_best(scores if self.views == 1 else scores.div_(self.views))
        self.labels[rows.start : rows.stop, columns.start : columns.stop] = best


def _in_threads(work: _Work) -> None:
    """Works off the rows of tiles with as many threads as PyTorch may use, each alone with its tiles.

    A tile's steps take microseconds; shared out among threads one by one, they would mostly wait for each
    other, and on a busy machine for ever.
    """
    tiles = _Tiles(work.maps)
    numbers = iter(range(tiles.row_count))
    threads = torch.get_num_threads()
    workers = min(threads, tiles.row_count, _MOST_THREADS) if work.maps[0].values.device.type == "cpu" else 1
    if workers == 1:
        work.rows(tiles, numbers)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            each = [tiles, *(_Tiles(work.maps) for _ in range(workers - 1))]
            for finished in [pool.submit(work.rows, own, numbers) for own in each]:
                finished.result()
    finally:
        # The number is each thread's own, but what the last one set is also what new threads begin with.
        torch.set_num_threads(threads)


def _empty_labels(first: LogitMap) -> Tensor:
    small = first.values.shape[1] <= 256
    return torch.empty((first.rows.image, first.columns.image), dtype=torch.uint8 if small else torch.int32)


@contextlib.contextmanager
def _plain_float32(device: torch.device) -> Iterator[None]:
    """Keeps autocast and TF32 out of the arithmetic of labels, whatever the network ran in."""
    with precision(device, "fp32"), torch.autocast(device.type, enabled=False):
        yield


class _Tiles:
    """The tiles of an image and the buffers that all of them use.

    Buffers are made once: a new one per step would be mapped and cleared by the system each time, which
    takes ten times as long as the arithmetic.
    """

    def __init__(self, maps: Sequence[LogitMap]) -> None:
        height, width = maps[0].rows.image, maps[0].columns.image
        device, self.classes = maps[0].values.device, maps[0].values.shape[1]
        tile_height, tile_width = _tile_size(device, self.classes, width)
        self._rows = [blocks(view.rows, min(tile_height, height), device) for view in maps]
        self._columns = [blocks(view.columns, min(tile_width, width), device) for view in maps]
        values = self.classes * min(tile_height, height) * min(tile_width, width)
        source_rows = max(block.weights.shape[1] for side in self._rows for block in side)
        self._widened = torch.empty(source_rows * self.classes * min(tile_width, width), device=device)
        self._scores, self._work, self._sum = (torch.empty(values, device=device) for _ in range(3))
        self._best = torch.empty(min(tile_height, height) * min(tile_width, width), device=device)
        # Descending, so that the largest marks the first of several best classes.
        self._rank = torch.arange(self.classes, 0, -1, dtype=torch.float32, device=device).view(1, -1, 1)

    @property
    def row_count(self) -> int:
        """Rows of tiles."""
        return len(self._rows[0])

    def blocks_of_row(self, row: int) -> Iterator[list[tuple[Block, Block]]]:
        """For each tile of a row, the block of rows and the block of columns of each map."""
        for column in range(len(self._columns[0])):
            yield [(rows[row], columns[column]) for rows, columns in zip(self._rows, self._columns, strict=True)]

    def logits(self, view: LogitMap, rows: Block, columns: Block) -> Tensor:
        """Logits of a tile at the image's size: [T, C, S], valid until the next call."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        widened = _cut(self._widened, rows.weights.shape[1], self.classes, width)
        _widen(view.values, rows, columns, widened)
        scores = _cut(self._scores, height, self.classes, width)
        torch.mm(rows.weights, widened.view(len(widened), -1), out=scores.view(height, -1))
        return scores

    def summed_probabilities(
        self, maps: Sequence[LogitMap], pairs: Sequence[tuple[Block, Block]], before: Tensor | None
    ) -> Tensor:
        """`before` plus the softmax probabilities of the views of a tile: [T, C, S]."""
        rows, columns = pairs[0]
        shape = rows.stop - rows.start, self.classes, columns.stop - columns.start
        total = _cut(self._sum, *shape).zero_() if before is None else before
        best = _cut(self._best, shape[0], 1, shape[2])
        for view, (rows, columns) in zip(maps, pairs, strict=True):
            scores = self.logits(view, rows, columns)
            torch.amax(scores, 1, keepdim=True, out=best)
            scores.sub_(best).exp_()
            torch.sum(scores, 1, keepdim=True, out=best)
            total.addcmul_(scores, best.reciprocal_())
        return total

    def first_best(self, scores: Tensor) -> Tensor:
        """The index of the first largest score: float32 [T, S] for scores [T, C, S].

        As comparisons and maxima of float32, which PyTorch vectorises over a tile's columns; its argmax is
        scalar and takes four times as long on the CPU.
        """
        best = _cut(self._best, scores.shape[0], 1, scores.shape[2])
        torch.amax(scores, 1, keepdim=True, out=best)
        marks = _cut(self._work, *scores.shape)
        torch.ge(scores, best, out=marks)
        torch.amax(marks.mul_(self._rank), 1, keepdim=True, out=best)
        return best.neg_().add_(self.classes).squeeze(1)


def _tile_size(device: torch.device, classes: int, width: int) -> tuple[int, int]:
    """Height and width of a tile in pixels: of a cache's size on the CPU, of a good load on a GPU."""
    if device.type == "cpu":
        columns, values = _CPU_TILE_COLUMNS, _CPU_TILE_VALUES
    else:
        columns, values = width, _DEVICE_TILE_VALUES
    return max(values // (classes * columns), 4), columns


def _cut(buffer: Tensor, *shape: int) -> Tensor:
    """The beginning of a flat buffer as a tensor of this shape."""
    return buffer[: math.prod(shape)].view(shape)


def _widen(values: Tensor, rows: Block, columns: Block, out: Tensor) -> None:
    """Resamples the columns of all logit rows [h, C, w] that the tile needs: `out` [R, C, S].

    Runs are read where they lie, through strides: copying them together costs more than the products.
    """
    row = 0
    for source in rows.runs:
        lines = values[source.start : source.stop].flatten(0, 1)
        target = out[row : row + source.stop - source.start].flatten(0, 1)
        row += source.stop - source.start
        for number, part in enumerate(columns.runs):
            logits = lines[:, part.start : part.stop]
            if number == 0:
                torch.mm(logits, part.weights.T, out=target)
            else:
                target.addmm_(logits, part.weights.T)
