"""Verifies the evaluation tail as it runs here: labels against scores in float64, counts against the labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from segzoo.kernels import tail_reference
from segzoo.kernels.check import Finding

_TOLERANCE = 2e-5  # of the largest score or probability; labels may differ where two are nearer than float32 can tell
_IMAGE = (61, 97)
# Classes, logit rows and columns of each view, taps a side.
_CASES = (
    (150, ((16, 25),), 2),
    (19, ((9, 13), (12, 17), (6, 9)), 2),
    (300, ((8, 8),), 4),
    (21, ((20, 31), (20, 31)), 6),
)


def verify(device: str = "cpu") -> Iterator[Finding]:
    """Compares one view and several, float32 and bfloat16 logits, in classes of one byte and of two."""
    for dtype in (torch.float32, torch.bfloat16):
        for classes, sizes, taps in _CASES:
            case = f"{classes} classes, {len(sizes)} views, {taps} taps, {str(dtype).removeprefix('torch.')}"
            yield from _findings(case, classes, sizes, taps, dtype, device)


def _findings(
    case: str, classes: int, sizes: tuple[tuple[int, int], ...], taps: int, dtype: torch.dtype, device: str
) -> Iterator[Finding]:
    generator = torch.Generator().manual_seed(classes)
    logits = [3 * torch.randn(classes, *size, generator=generator).to(dtype) for size in sizes]
    sides = [[_taps(_IMAGE[axis], size[axis], taps, generator) for size in sizes] for axis in range(2)]
    target = torch.randint(0, classes + 3, _IMAGE, generator=generator)
    lists = [[pair[part].to(device) for pair in side] for side in sides for part in range(2)]
    labels, counts = torch.ops.segzoo.segmentation_tail(
        [view.to(device) for view in logits], *lists, target.to(device), classes, 1
    )
    labels, counts = labels.cpu(), counts.cpu()
    scores = _scores(logits, sides)
    chosen = scores.gather(0, labels.long()[None])[0]
    error = ((scores.amax(0) - chosen).max() / scores.abs().max()).item()
    yield Finding(part="tail", case=case, result="labels", error=error, tolerance=_TOLERANCE)
    wrong = (counts - tail_reference.confusion(labels, target, classes, 1)).abs().sum().item()
    yield Finding(part="tail", case=case, result="counts", error=float(wrong), tolerance=0.0)


def _taps(pixels: int, length: int, taps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Neighbouring logits with weights that sum to 1; the first pixel has one of no weight."""
    starts = torch.linspace(0, max(length - taps, 0), pixels).floor().int()
    sources = (starts[:, None] + torch.arange(taps, dtype=torch.int32)).clamp(max=length - 1)
    weights = torch.rand(pixels, taps, generator=generator) + 0.05
    weights[0, -1] = 0
    return sources.contiguous(), (weights / weights.sum(1, keepdim=True)).contiguous()


def _scores(logits: list[Tensor], sides: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
    """Scores of one view, or the summed probabilities of several, in float64 at full size: [C, H, W]."""
    views = []
    for view, rows, columns in zip(logits, *sides, strict=True):
        down, across = (_matrix(pair, view.shape[1 + axis]) for axis, pair in enumerate((rows, columns)))
        views.append(down @ view.double() @ across.T)
    return views[0] if len(views) == 1 else torch.stack([view.softmax(0) for view in views]).sum(0)


def _matrix(taps: tuple[Tensor, Tensor], length: int) -> Tensor:
    """Weights [pixels, length] of all logits."""
    sources, weights = taps
    matrix = torch.zeros(len(sources), length, dtype=torch.float64)
    return matrix.scatter_add_(1, sources.long(), weights.double())
