"""The operator segzoo::segmentation_tail: logits of all views of an image -> labels and their confusion matrix.

Everything between a network's logits and a label is linear along rows and along columns, but for the softmax:
upsampling to the network's input, averaging of overlapping windows, mirroring, resizing to the image. So a view
is its logits and two short lists a pixel row and a pixel column, of the logit rows and columns that it is made of
(`Taps`; segzoo/inference/resampling.py composes them). The full-size scores exist only in registers and caches.

The readable reference stands at CompositeExplicitAutograd, so that every device has an answer. A compiled
library, when loaded, registers itself at CPU or CUDA, and the dispatcher prefers it. There is no gradient:
labels have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from segzoo.kernels import tail_reference

_library = torch.library.Library("segzoo", "FRAGMENT")
_library.define(
    "segmentation_tail(Tensor[] logits, Tensor[] row_sources, Tensor[] row_weights, Tensor[] column_sources, "
    "Tensor[] column_weights, Tensor? target, int num_classes, int ignore) -> (Tensor, Tensor)"
)
_library.impl("segmentation_tail", tail_reference.forward, "CompositeExplicitAutograd")

_LOGIT_TYPES = (torch.float32, torch.bfloat16)
_TARGET_TYPES = (torch.uint8, torch.int64)


@dataclass(frozen=True, kw_only=True)
class Taps:
    """Which logits every pixel along one side of the image is made of.

    Attributes:
        sources: int32 [pixels, taps], contiguous, on the logits' device: rows or columns of the logit map. A pixel
            with fewer taps than others repeats one with weight 0.
        weights: float32 [pixels, taps], contiguous; of a mean they are at least 0 and sum to 1.
    """

    sources: Tensor
    weights: Tensor


def segmentation_tail(
    logits: Sequence[Tensor],
    rows: Sequence[Taps],
    columns: Sequence[Taps],
    *,
    target: Tensor | None = None,
    num_classes: int | None = None,
    ignore: int = 255,
) -> tuple[Tensor, Tensor]:
    """The class of every pixel, and how often each class was given to pixels of each true class.

    A view's score of class c at pixel (y, x) is
    `sum(rows.weights[y, i] * columns.weights[x, j] * logits[c, rows.sources[y, i], columns.sources[x, j]])`.
    Of one view the class with the largest score is taken; of several the softmax over the classes of each view is
    formed in float32, summed in the order of the views, and the class with the largest sum is taken. The lowest
    index wins a tie. Of a pixel with scores that are not finite the label is some class.

    Args:
        logits: of each view [C, h, w], strides as they come; float32 or bfloat16 are read as they are, other types
            are converted to float32. h and w may differ between views.
        rows: of each view, `Taps` of the H pixel rows.
        columns: of each view, `Taps` of the W pixel columns.
        target: the true classes [H, W], integers, on the logits' device; None counts nothing.
        num_classes: K, the classes that are counted; C where None.
        ignore: the value of `target` that is counted nowhere.

    Returns:
        labels [H, W], uint8 for C <= 256, else int32; and counts int64 [K + 1, K + 1], target down and label
        across, where row and column K have what is outside 0..K-1 (empty, [0, 0], without a target).

    Raises:
        ValueError: views, shapes, types or devices that do not fit together.
    """
    _check(logits, rows, columns, target)
    if target is not None and target.dtype not in _TARGET_TYPES:
        target = target.to(torch.int64)
    return torch.ops.segzoo.segmentation_tail(
        [view if view.dtype in _LOGIT_TYPES else view.float() for view in logits],
        [taps.sources for taps in rows],
        [taps.weights for taps in rows],
        [taps.sources for taps in columns],
        [taps.weights for taps in columns],
        target,
        logits[0].shape[0] if num_classes is None else num_classes,
        ignore,
    )


def _check(logits: Sequence[Tensor], rows: Sequence[Taps], columns: Sequence[Taps], target: Tensor | None) -> None:
    if not logits or not len(logits) == len(rows) == len(columns):
        raise ValueError(
            f"{len(logits)} views of logits need as many rows and columns, not {len(rows)}, {len(columns)}"
        )
    classes, size = logits[0].shape[:1], (len(rows[0].sources), len(columns[0].sources))
    for number, view in enumerate(logits):
        if view.dim() != 3 or not view.numel() or view.shape[:1] != classes or not view.is_floating_point():
            raise ValueError(
                f"logits[{number}] must be floating point [{classes[0] if classes else 'C'}, h, w] with values in it, "
                f"not {view.dtype} {list(view.shape)}"
            )
        _check_taps(f"rows[{number}]", rows[number], size[0], view)
        _check_taps(f"columns[{number}]", columns[number], size[1], view)
    if target is not None:
        if target.shape != size or target.is_floating_point() or target.dtype == torch.bool:
            raise ValueError(f"target must be integers {list(size)}, not {target.dtype} {list(target.shape)}")
        if target.device != logits[0].device:
            raise ValueError(f"target is on {target.device}, logits are on {logits[0].device}")


def _check_taps(name: str, taps: Taps, pixels: int, view: Tensor) -> None:
    sources, weights = taps.sources, taps.weights
    if sources.dtype != torch.int32 or weights.dtype != torch.float32:
        raise ValueError(f"{name} must have int32 sources and float32 weights, not {sources.dtype}, {weights.dtype}")
    if sources.dim() != 2 or sources.shape != weights.shape or sources.shape[0] != pixels or not sources.shape[1]:
        raise ValueError(
            f"{name} must have sources and weights [{pixels}, taps], not {list(sources.shape)}, {list(weights.shape)}"
        )
    if not view.device == sources.device == weights.device:
        raise ValueError(f"{name} is on {sources.device} and {weights.device}, its logits are on {view.device}")


@torch.library.register_fake("segzoo::segmentation_tail")
def _fake(
    logits: list[Tensor],
    row_sources: list[Tensor],
    row_weights: list[Tensor],
    column_sources: list[Tensor],
    column_weights: list[Tensor],
    target: Tensor | None,
    num_classes: int,
    ignore: int,
) -> tuple[Tensor, Tensor]:
    first, side = logits[0], num_classes + 1 if target is not None else 0
    labels = first.new_empty(
        row_sources[0].shape[0], column_sources[0].shape[0], dtype=tail_reference.label_type(first.shape[0])
    )
    return labels, first.new_empty(side, side, dtype=torch.int64)


@register_flop_formula(torch.ops.segzoo.segmentation_tail)
def flops(
    logit_shapes: list[torch.Size],
    row_shapes: list[torch.Size],
    _row_weights: list[torch.Size],
    column_shapes: list[torch.Size],
    *_: Any,
    **__: Any,
) -> int:
    """FLOPs (2 a multiply-add): a multiply-add a tap, along the columns of every logit row and then along the rows."""
    return sum(
        2 * classes * columns[0] * (height * columns[1] + rows[0] * rows[1])
        for (classes, height, _), rows, columns in zip(logit_shapes, row_shapes, column_shapes, strict=True)
    )
