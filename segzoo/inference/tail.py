"""Logits -> labels: the one place where maps of logits become class indices at the image's size.

The arithmetic is the operator segzoo.kernels.segmentation_tail; here the views of an image are brought to it, all
at once where their logits fit into memory, else group by group.

Letters: h, w rows and columns of a logit map; C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segzoo.inference.resampling import Side, side_taps
from segzoo.kernels import segmentation_tail, tail_reference

# Logits of several views that are kept at once, so that their probabilities meet tile by tile.
_GROUP_BYTES = 1024 * 2**20


@dataclass(frozen=True, kw_only=True)
class LogitMap:
    """The logits of one view of an image.

    Attributes:
        values: [C, h, w], strides as they come; the maps of several windows stand side by side, in rows and columns.
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


@dataclass(frozen=True, kw_only=True)
class Counting:
    """What predictions are counted against while they are made.

    Attributes:
        target: true classes [H, W], integers.
        num_classes: K, the classes that are told apart.
        ignore: the value of `target` that is counted nowhere.
    """

    target: Tensor
    num_classes: int
    ignore: int = 255


def label_map(views: Iterable[LogitMap], *, count: int, counting: Counting | None = None) -> tuple[Tensor, Tensor]:
    """The class index of every pixel and its count, see segzoo.kernels.segmentation_tail, on the CPU.

    Of one view the class with the largest logit, of several that with the largest mean softmax
    probability, summed in float32 in the order of the views. The lowest index wins a tie.

    Args:
        views: the views of an image, in order.
        count: how many there are.
        counting: what the labels are compared with; None gives counts [0, 0].
    """
    groups = _grouped(views, _GROUP_BYTES)
    first = next(groups)
    if len(first) == count:
        labels, counts = _fused(first, counting)
    else:
        labels = _summed(first, groups, tail_reference.Sums(views=count))
        counts = labels.new_empty((0, 0), dtype=torch.int64)
        if counting is not None:
            target = counting.target.to(labels.device)
            counts = tail_reference.confusion(labels, target, counting.num_classes, counting.ignore)
    return labels.cpu(), counts.cpu()


def confident_label_map(views: Iterable[LogitMap], *, count: int) -> tuple[Tensor, Tensor]:
    """The labels of `label_map`, and the probability of each: float32 [H, W], of several views the mean; on the CPU.

    The probabilities need a second pass over the logits, since the fused operator keeps none.
    """
    groups = _grouped(views, _GROUP_BYTES)
    first = next(groups)
    sums = tail_reference.Sums(views=count, confident=True)
    if len(first) == count:
        labels, _ = _fused(first, None)
        _add(sums, first)
    else:
        labels = _summed(first, groups, sums)
    if sums.confidence is None:
        raise ValueError(f"fewer views than the {count} that were announced")
    return labels.cpu(), sums.confidence.cpu()


def _fused(maps: Sequence[LogitMap], counting: Counting | None) -> tuple[Tensor, Tensor]:
    device = maps[0].values.device
    return segmentation_tail(
        [view.values for view in maps],
        [side_taps(view.rows, device) for view in maps],
        [side_taps(view.columns, device) for view in maps],
        target=None if counting is None else counting.target.to(device),
        num_classes=None if counting is None else counting.num_classes,
        ignore=255 if counting is None else counting.ignore,
    )


def _summed(first: Sequence[LogitMap], others: Iterator[list[LogitMap]], sums: tail_reference.Sums) -> Tensor:
    """Labels of more views than are kept at once, through a sum of probabilities at full size."""
    labels = None
    group: Sequence[LogitMap] | None = first
    while group is not None:
        labels = _add(sums, group)
        group = next(others, None)
    if labels is None:
        raise ValueError(f"fewer views than the {sums.views} that were announced")
    return labels


def _add(sums: tail_reference.Sums, group: Sequence[LogitMap]) -> Tensor | None:
    sides = [(side_taps(view.rows, _CPU), side_taps(view.columns, _CPU)) for view in group]
    rows = [(taps.sources, taps.weights) for taps, _ in sides]
    columns = [(taps.sources, taps.weights) for _, taps in sides]
    return sums.add([view.values for view in group], rows, columns)


_CPU = torch.device("cpu")


def _grouped(maps: Iterable[LogitMap], limit_bytes: int) -> Iterator[list[LogitMap]]:
    """The maps in groups of at most `limit_bytes`, or of one map that is larger."""
    group: list[LogitMap] = []
    for view in maps:
        if group and sum(item.bytes for item in group) + view.bytes > limit_bytes:
            yield group
            group = []
        group.append(view)
    if group:
        yield group
