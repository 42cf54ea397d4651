"""UN-EPT's losses: segmentation, boundary mask, direction, and the segmentation moved along the directions.

They follow amazon-research/unified-ept where that is defined. Kept although odd: no pixel is left out of the mask's
loss (padding counts as inside, unlabelled pixels as boundary), and the direction is learned where a boundary is
PREDICTED, wherever the true one lies.

Letters: B batch, K classes, H height, W width; h, w the size of an output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.errors import UsageError

BOUNDARY_WIDTH = 5
"""Pixels at most this far from another class are boundary."""
DIRECTIONS = 8
# (row, column) steps of the classes of direction: 0 is -180 degrees, left, and each class turns by 45 degrees.
_STEPS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))
_NONE = -1
_REFINED_FROM = 0.5  # of the raw logit, not of its probability


def unept_losses(
    outputs: Mapping[str, Tensor],
    label: Tensor,
    distance: Tensor,
    angle: Tensor,
    weights: Mapping[str, float],
    *,
    ignore: int,
) -> dict[str, Tensor]:
    """The terms that `weights` names, each with its weight; their sum is what is minimised.

    Args:
        outputs: of `UNEPT.forward_outputs`: "logits" [B, K, h, w], "mask_logits" [B, 2, h, w],
            "direction_logits" [B, 8, h, w].
        label: class indices [B, H, W], int64.
        distance: [B, H, W] pixels to the nearest other class, see segzoo/data/boundary.py; padding holds 255.
        angle: [B, H, W] degrees towards the inside; padding holds 255.
        weights: of "logits", "mask_logits", "direction_logits" and "refined_logits".
        ignore: the label of pixels that take no part in the segmentation's two terms.

    Raises:
        UsageError: another name in `weights`, or no such output.
    """
    terms = ("logits", "mask_logits", "direction_logits", "refined_logits")
    if unknown := [name for name in weights if name not in terms]:
        raise UsageError(f"UN-EPT has no loss {unknown[0]!r}; it has {', '.join(terms)}")
    if missing := [name for name in terms[:3] if name not in outputs]:
        raise UsageError(f"the model gives no {missing[0]}, which UN-EPT's losses need; it gives {', '.join(outputs)}")
    size = label.shape[1:]
    logits = F.interpolate(outputs["logits"].float(), size=size, mode="bilinear", align_corners=False)
    # The authors align the corners of these two, and not of the segmentation.
    mask = F.interpolate(outputs["mask_logits"].float(), size=size, mode="bilinear", align_corners=True)
    direction = F.interpolate(outputs["direction_logits"].float(), size=size, mode="bilinear", align_corners=True)
    surprise = -F.log_softmax(logits, dim=1)
    losses = {
        "logits": segmentation_loss(surprise, label, None, ignore=ignore),
        "mask_logits": balanced_cross_entropy(mask, mask_target(distance)),
        "direction_logits": balanced_cross_entropy(direction, direction_target(angle, mask)),
        "refined_logits": segmentation_loss(surprise, label, refinement_sources(mask, direction), ignore=ignore),
    }
    return {name: weight * losses[name] for name, weight in weights.items()}


def segmentation_loss(surprise: Tensor, label: Tensor, sources: Tensor | None, *, ignore: int) -> Tensor:
    """Mean over ALL pixels, ignored ones counting as 0, of the surprise at the label: a scalar.

    Args:
        surprise: [B, K, H, W], minus the log probabilities.
        label: [B, H, W].
        sources: [B, H * W], the pixel whose prediction each pixel takes; None is its own. Only the labels'
            entries are read, so that moving the prediction needs no second map of all classes.
        ignore: label of pixels without a term.
    """
    labelled = (label != ignore).flatten(1)
    classes = label.flatten(1).where(labelled, 0)
    pixels = classes.shape[1]
    places = torch.arange(pixels, device=label.device) if sources is None else sources
    values = surprise.flatten(1).gather(1, classes * pixels + places)
    return values.where(labelled, 0.0).sum() / label.numel()


def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Weighted mean of the cross entropy, the rarer a class in the target, the larger its weight: a scalar.

    A class with a share s of the pixels has weight 1 - s. Where nothing has a weight (no boundary is predicted, or
    all pixels are of one class) the authors' code divides 0 by 0, and the NaN spoils the whole loss and, by the
    next step, the network. There is nothing to learn from such a batch, so the term is 0 here, with gradients of 0.

    Args:
        logits: [B, C, H, W].
        target: [B, H, W] class indices, -1 for pixels that take no part.
    """
    weights = class_weights(target, logits.shape[1])
    total = F.cross_entropy(logits, target, weight=weights, ignore_index=_NONE, reduction="sum")
    share = torch.where(target == _NONE, 0.0, weights[target.clamp(min=0)]).sum()
    return torch.where(share > 0, total / share.clamp(min=torch.finfo(share.dtype).tiny), total * 0.0)


def class_weights(target: Tensor, classes: int) -> Tensor:
    """[C] float32: 1 - the share of each class among the pixels of `target` that are not -1."""
    counts = torch.stack([(target == index).sum() for index in range(classes)]).float()
    return 1 - counts / counts.sum().clamp(min=1)


def mask_target(distance: Tensor) -> Tensor:
    """[B, H, W] int64: 1 where the boundary is near, else 0."""
    return ((distance >= 0) & (distance <= BOUNDARY_WIDTH)).long()


def direction_target(angle: Tensor, mask_logits: Tensor) -> Tensor:
    """[B, H, W] int64: the class of the angle where the mask predicts boundary, else -1.

    Class i is (i * 45 - 202.5, i * 45 - 157.5] degrees; beyond 157.5 begins class 0 again, as does padding.
    """
    classes = torch.ceil((angle.double() + 202.5) / 45).long() - 1
    classes = classes.where(angle <= 157.5, 0)
    return classes.where(mask_logits.softmax(1)[:, 1] > 0.5, _NONE)


@torch.no_grad()
def refinement_sources(mask_logits: Tensor, direction_logits: Tensor) -> Tensor:
    """[B, H * W] int64: the pixel next to it, along its direction, where boundary is predicted; else itself.

    Beyond the image's edge it is the pixel at the edge.
    """
    height, width = mask_logits.shape[2:]
    device = mask_logits.device
    # Made on the device, as a copy from the host would make a GPU wait.
    steps = torch.stack([torch.full((), step, device=device) for pair in _STEPS for step in pair]).view(-1, 2)
    step = steps[direction_logits.argmax(1)] * (mask_logits[:, 1] > _REFINED_FROM)[..., None]
    rows = (torch.arange(height, device=device)[:, None] + step[..., 0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + step[..., 1]).clamp(0, width - 1)
    return (rows * width + columns).flatten(1)
