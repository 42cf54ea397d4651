"""The readable reference of segzoo::segmentation_tail, in PyTorch: two small matrix products a tile.

The image is worked through in tiles (tail_tiles.py) whose scores of all classes fit into a core's cache. The best class
is found, or the softmax is added up, before a tile is left, so that the scores of the whole image, 200 MB for 150
classes on a small picture, need not exist. Arithmetic is in float32, in float64 for logits of that type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from segzoo.device import precision
from segzoo.kernels.tail_tiles import Block, Tiles, View, views_of

# More would wait for Python's lock.
_MOST_THREADS = 8


def label_type(classes: int) -> torch.dtype:
    """The dtype of labels: uint8 where it can hold the classes."""
    return torch.uint8 if classes <= 256 else torch.int32


def forward(
    logits: Sequence[Tensor],
    row_sources: Sequence[Tensor],
    row_weights: Sequence[Tensor],
    column_sources: Sequence[Tensor],
    column_weights: Sequence[Tensor],
    target: Tensor | None,
    num_classes: int,
    ignore: int,
) -> tuple[Tensor, Tensor]:
    """Labels and counts, as segzoo.kernels.tail describes them; sources must lie inside the logit maps."""
    rows = list(zip(row_sources, row_weights, strict=True))
    columns = list(zip(column_sources, column_weights, strict=True))
    sums = Sums(views=len(logits))
    labels = sums.add(logits, rows, columns)
    assert labels is not None
    if target is None:
        return labels, labels.new_empty((0, 0), dtype=torch.int64)
    return labels, confusion(labels, target, num_classes, ignore)


def confusion(labels: Tensor, target: Tensor, num_classes: int, ignore: int) -> Tensor:
    """Counts int64 [K + 1, K + 1] of pixels by target (down) and label (across); what is no class in the last."""
    valid = target != ignore
    down = target[valid].long()
    down = torch.where(down < 0, num_classes, down.clamp(max=num_classes))
    across = labels[valid].long().clamp(max=num_classes)
    side = num_classes + 1
    return torch.bincount(down * side + across, minlength=side * side).view(side, side)


@dataclass(kw_only=True)
class Sums:
    """Turns the views of an image into labels, in one go or group by group.

    Groups need the sum of the probabilities of every pixel between them, which is the full size; one group of all
    views keeps no more than a tile.

    Attributes:
        views: how many there are in all groups.
        confident: also keep the probability of each pixel's class.
        confidence: that probability, float32 [H, W] on the logits' device, after the last group: of one view its
            softmax, of several the mean of theirs.
    """

    views: int
    confident: bool = False
    confidence: Tensor | None = None
    _done: int = 0
    _tiles: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def add(
        self,
        logits: Sequence[Tensor],
        rows: Sequence[tuple[Tensor, Tensor]],
        columns: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor | None:
        """The labels [H, W] with the last group of views, None before.

        Args:
            logits: of each view of the group, [C, h, w].
            rows: of each view, sources and weights [H, taps].
            columns: of each view, sources and weights [W, taps].
        """
        self._done += len(logits)
        if self._done > self.views:
            raise ValueError(f"{self._done} views where {self.views} were announced")
        labels = None
        if self._done == self.views:
            size = len(rows[0][0]), len(columns[0][0])
            labels = logits[0].new_empty(size, dtype=label_type(logits[0].shape[0]))
            self.confidence = logits[0].new_empty(size, dtype=torch.float32) if self.confident else None
        work = _Work(
            maps=views_of(logits, rows, columns),
            labels=labels,
            confidence=self.confidence,
            sums=self._tiles,
            views=self.views,
        )
        _in_threads(work)
        return labels


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A group of views, and where its labels (with the last group) or sums of probabilities go."""

    maps: list[View]
    labels: Tensor | None
    confidence: Tensor | None
    sums: dict[tuple[int, int], Tensor]
    views: int

    def rows(self, tiles: Tiles, numbers: Iterator[int]) -> None:
        """Works off rows of tiles until there are no more numbers."""
        with torch.inference_mode(), _plain_float32(self.maps[0].values.device):
            for row in numbers:
                for column, pairs in enumerate(tiles.blocks_of_row(row)):
                    self._tile(tiles, (row, column), pairs)

    def _tile(self, tiles: Tiles, place: tuple[int, int], pairs: list[tuple[Block, Block]]) -> None:
        rows, columns = pairs[0]
        if self.views == 1:
            scores = tiles.scores(self.maps[0], rows, columns)
        else:
            scores = tiles.summed_probabilities(self.maps, pairs, self.sums.pop(place, None))
        if self.labels is None:
            self.sums[place] = scores.clone()
            return
        self.labels[rows.start : rows.stop, columns.start : columns.stop] = tiles.first_best(scores)
        if self.confidence is not None:
            best = tiles.best_probability(scores, views=self.views)
            self.confidence[rows.start : rows.stop, columns.start : columns.stop] = best


def _in_threads(work: _Work) -> None:
    """Works off the rows of tiles with as many threads as PyTorch may use, each alone with its tiles.

    A tile's steps take microseconds; shared out among threads one by one, they would mostly wait for each
    other, and on a busy machine for ever.
    """
    tiles = Tiles(work.maps)
    numbers = iter(range(tiles.row_count))
    threads = torch.get_num_threads()
    workers = min(threads, tiles.row_count, _MOST_THREADS) if work.maps[0].values.device.type == "cpu" else 1
    if workers <= 1:
        work.rows(tiles, numbers)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            each = [tiles, *(Tiles(work.maps) for _ in range(workers - 1))]
            for finished in [pool.submit(work.rows, own, numbers) for own in each]:
                finished.result()
    finally:
        # The number is each thread's own, but what the last one set is also what new threads begin with.
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _plain_float32(device: torch.device) -> Iterator[None]:
    """Keeps autocast and TF32 out of the arithmetic of labels, whatever the network ran in."""
    with precision(device, "fp32"), torch.autocast(device.type, enabled=False):
        yield
