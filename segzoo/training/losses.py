"""Losses of a recipe: cross entropy for every output with its weight, and the terms that only UN-EPT has.

Letters: B batch, K classes, H height, W width; h, w the size of an output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.errors import UsageError


def pixel_cross_entropy(logits: Tensor, label: Tensor, *, ignore: int, class_weights: Tensor | None = None) -> Tensor:
    """Sum over the labelled pixels divided by the number of ALL pixels, ignored ones included: a scalar in float32.

    This is mmsegmentation's mean (avg_non_ignore False), with class weights too. torch's own mean divides by the
    labelled pixels, or by the sum of their weights.

    Args:
        logits: [B, K, h, w]; brought to the label's size by bilinear interpolation.
        label: [B, H, W] class indices, int64.
        ignore: the index of pixels that take no part.
        class_weights: [K].
    """
    values = logits.float()
    if values.shape[2:] != label.shape[1:]:
        values = F.interpolate(values, size=label.shape[1:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(values, label, weight=class_weights, ignore_index=ignore, reduction="sum")
    return total / label.numel()


def weighted_losses(
    outputs: Mapping[str, Tensor],
    label: Tensor,
    weights: Mapping[str, float],
    *,
    ignore: int,
    class_weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """A loss for each output that the recipe names, its weight included; their sum is what is minimised.

    Raises:
        UsageError: the recipe names an output that the model does not have.
    """
    missing = [name for name in weights if name not in outputs]
    if missing:
        raise UsageError(
            f"the recipe has a loss for {missing[0]!r}, but the model gives {', '.join(outputs)}; "
            "correct the recipe's `losses`"
        )
    return {
        name: weight * pixel_cross_entropy(outputs[name], label, ignore=ignore, class_weights=class_weights)
        for name, weight in weights.items()
    }


@torch.no_grad()
def pixel_accuracy(logits: Tensor, label: Tensor, *, ignore: int) -> Tensor:
    """Share of the labelled pixels whose class has the largest logit, in percent; nan without any."""
    values = logits
    if values.shape[2:] != label.shape[1:]:
        values = F.interpolate(values.float(), size=label.shape[1:], mode="bilinear", align_corners=False)
    counted = label != ignore
    return 100.0 * (values.argmax(1) == label)[counted].float().mean()
