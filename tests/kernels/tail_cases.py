"""Random problems for the evaluation tail, and their answer by PyTorch's own resizing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segzoo.inference.resampling import Side, side_taps
from segzoo.inference.windows import windows
from segzoo.kernels import Taps

CPU = torch.device("cpu")


def whole_side(logits: int, network: int, image: int, mirrored: bool = False) -> Taps:
    """One window that is the whole network input."""
    return side_taps(
        Side(image=image, windows=windows(network, network, network), logits=logits, mirrored=mirrored), CPU
    )


def random_logits(classes: int, height: int, width: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(classes, height, width, generator=generator)


def published_scores(logits: Tensor, network: tuple[int, int], image: tuple[int, int]) -> Tensor:
    """Scores [C, H, W] in float64 by the two interpolations of the published chain."""
    for size in (network, image):
        logits = F.interpolate(logits[None].double(), size=size, mode="bilinear", align_corners=False)[0]
    return logits


def assert_labels_are_best(labels: Tensor, scores: Tensor, tolerance: float) -> None:
    """Every label's score [C, H, W] is within `tolerance` of the best one."""
    chosen = scores.gather(0, labels.long()[None])[0]
    assert (scores.amax(0) - chosen).max() <= tolerance
