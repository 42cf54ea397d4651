"""The tiles that the reference of the evaluation tail works through, and the arithmetic within one.

Letters: h, w rows and columns of a logit map; C classes; T, S rows and columns of a tile; R logit rows of a tile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_CPU_TILE_VALUES = 160_000
_CPU_TILE_COLUMNS = 64
_DEVICE_TILE_VALUES = 32_000_000


@dataclass(frozen=True)
class _Run:
    """Consecutive logits and their weights [pixels of the block, stop - start]."""

    start: int
    stop: int
    weights: Tensor


@dataclass(frozen=True)
class Block:
    """A few consecutive pixels of a side, start to stop, and the logits they are made of.

    `weights` [stop - start, logits in use] has the runs' weights side by side.
    """

    start: int
    stop: int
    runs: tuple[_Run, ...]
    weights: Tensor


@dataclass(frozen=True, kw_only=True)
class View:
    """One view: logits [h, C, w], contiguous, with the sources and weights of its rows and columns."""

    values: Tensor
    rows: tuple[Tensor, Tensor]
    columns: tuple[Tensor, Tensor]


def views_of(
    logits: Sequence[Tensor], rows: Sequence[tuple[Tensor, Tensor]], columns: Sequence[tuple[Tensor, Tensor]]
) -> list[View]:
    """The views of logits [C, h, w] with the sources and weights [pixels, taps] of their rows and columns."""
    return [_view(*parts) for parts in zip(logits, rows, columns, strict=True)]


def _view(values: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> View:
    # Sources become slices, so they are wanted where Python reads them.
    sources = rows[0].cpu()
    used, places = torch.unique(sources, return_inverse=True)
    if len(used) < values.shape[1]:
        # A band of a picture is made of few of the rows that are kept; only they are copied.
        values, sources = values.index_select(1, used.to(values.device)), places
    return View(
        values=values.permute(1, 0, 2).to(torch.promote_types(values.dtype, torch.float32)).contiguous(),
        rows=(sources, rows[1].cpu()),
        columns=(columns[0].cpu(), columns[1].cpu()),
    )


def _blocks(taps: tuple[Tensor, Tensor], length: int, like: Tensor) -> list[Block]:
    """A whole side in blocks of `length` pixels, the last one shorter."""
    sources, weights = taps
    found = []
    for start in range(0, len(sources), length):
        stop = min(start + length, len(sources))
        used, places = torch.unique(sources[start:stop], return_inverse=True)
        matrix = torch.zeros(stop - start, len(used), dtype=torch.float32)
        matrix.scatter_add_(1, places, weights[start:stop])
        matrix = matrix.to(like)
        found.append(Block(start, stop, tuple(_runs(used, matrix)), matrix))
    return found


def _runs(sources: Tensor, weights: Tensor) -> Iterator[_Run]:
    """Splits ascending source indices where one is left out."""
    places = sources.tolist()
    breaks = [index for index in range(1, len(places)) if places[index] != places[index - 1] + 1]
    for first, last in itertools.pairwise([0, *breaks, len(places)]):
        yield _Run(places[first], places[last - 1] + 1, weights[:, first:last])


class Tiles:
    """The tiles of an image and the buffers that all of them use.

    Buffers are made once: a new one per step would be mapped and cleared by the system each time, which
    takes ten times as long as the arithmetic.
    """

    def __init__(self, maps: Sequence[View]) -> None:
        height, width = len(maps[0].rows[0]), len(maps[0].columns[0])
        like, self.classes = maps[0].values, maps[0].values.shape[1]
        tile_height, tile_width = _tile_size(like.device, self.classes, width)
        self._rows = [_blocks(view.rows, min(tile_height, height), like) for view in maps]
        self._columns = [_blocks(view.columns, min(tile_width, width), like) for view in maps]
        values = self.classes * min(tile_height, height) * min(tile_width, width)
        source_rows = max((block.weights.shape[1] for side in self._rows for block in side), default=0)
        self._widened = like.new_empty(source_rows * self.classes * min(tile_width, width))
        self._scores, self._work, self._sum = (like.new_empty(values) for _ in range(3))
        self._best = like.new_empty(min(tile_height, height) * min(tile_width, width))
        # Descending, so that the largest marks the first of several best classes.
        self._rank = torch.arange(self.classes, 0, -1, dtype=like.dtype, device=like.device).view(1, -1, 1)

    @property
    def row_count(self) -> int:
        """Rows of tiles."""
        return len(self._rows[0])

    def blocks_of_row(self, row: int) -> Iterator[list[tuple[Block, Block]]]:
        """For each tile of a row, the block of rows and the block of columns of each map."""
        for column in range(len(self._columns[0])):
            yield [(rows[row], columns[column]) for rows, columns in zip(self._rows, self._columns, strict=True)]

    def scores(self, view: View, rows: Block, columns: Block) -> Tensor:
        """Scores of a tile at the image's size: [T, C, S], valid until the next call."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        widened = _cut(self._widened, rows.weights.shape[1], self.classes, width)
        _widen(view.values, rows, columns, widened)
        scores = _cut(self._scores, height, self.classes, width)
        torch.mm(rows.weights, widened.view(len(widened), -1), out=scores.view(height, -1))
        return scores

    def summed_probabilities(
        self, maps: Sequence[View], pairs: Sequence[tuple[Block, Block]], before: Tensor | None
    ) -> Tensor:
        """`before` plus the softmax probabilities of the views of a tile: [T, C, S]."""
        rows, columns = pairs[0]
        shape = rows.stop - rows.start, self.classes, columns.stop - columns.start
        total = _cut(self._sum, *shape).zero_() if before is None else before
        best = _cut(self._best, shape[0], 1, shape[2])
        for view, (rows, columns) in zip(maps, pairs, strict=True):
            scores = self.scores(view, rows, columns)
            torch.amax(scores, 1, keepdim=True, out=best)
            scores.sub_(best).exp_()
            torch.sum(scores, 1, keepdim=True, out=best)
            total.addcmul_(scores, best.reciprocal_())
        return total

    def first_best(self, scores: Tensor) -> Tensor:
        """The index of the first largest score: [T, S] for scores [T, C, S].

        As comparisons and maxima of float32, which PyTorch vectorises over a tile's columns; its argmax is
        scalar and takes four times as long on the CPU.
        """
        best = _cut(self._best, scores.shape[0], 1, scores.shape[2])
        torch.amax(scores, 1, keepdim=True, out=best)
        marks = _cut(self._work, *scores.shape)
        torch.ge(scores, best, out=marks)
        torch.amax(marks.mul_(self._rank), 1, keepdim=True, out=best)
        return best.neg_().add_(self.classes).clamp_(0, self.classes - 1).squeeze(1)

    def best_probability(self, scores: Tensor, *, views: int) -> Tensor:
        """The probability of the best class [T, S], for the logits of one view or the summed softmax of several."""
        best = _cut(self._best, scores.shape[0], 1, scores.shape[2])
        torch.amax(scores, 1, keepdim=True, out=best)
        if views > 1:
            return best.div_(views).squeeze(1)
        # The best class's own exponential is 1, so that its share is 1 over the sum of all.
        shares = _cut(self._work, *scores.shape)
        torch.sub(scores, best, out=shares)
        torch.sum(shares.exp_(), 1, keepdim=True, out=best)
        return best.reciprocal_().squeeze(1)


def _tile_size(device: torch.device, classes: int, width: int) -> tuple[int, int]:
    """Height and width of a tile in pixels: of a cache's size on the CPU, of a good load on a GPU."""
    if device.type == "cpu":
        columns, values = _CPU_TILE_COLUMNS, _CPU_TILE_VALUES
    else:
        columns, values = max(width, 1), _DEVICE_TILE_VALUES
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
