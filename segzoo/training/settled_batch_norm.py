"""Batch norms with settled statistics: averages over many batches with the weights as they are.

The running statistics lag behind weights that move fast, and those of maps of one pixel come from as many values as a
batch has images: at rates that a small network trains best with, they say little about it. Precise statistics
("precise batch norm", Wu and Johnson 2021, arXiv 2105.07576) before an evaluation, and fixed ones in the last part of
a training, mend that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from segzoo.errors import SegzooError
from segzoo.training.batches import Batch, Samples, Source

BATCHES = 64
"""How many batches are averaged."""


@torch.no_grad()
def settle(model: nn.Module, forward: Callable[[Tensor], Any], images: Iterable[Tensor]) -> None:
    """Replaces the statistics of all batch norms of `model` by their averages over the batches, in place.

    Weights stay, and the model is left in training mode.

    Args:
        model: has the batch norms.
        forward: runs all of them on a batch [B, 3, H, W].
        images: the batches.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches
    try:
        for image in images:
            forward(image)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def batches_from(
    source: Source, collate: Callable[[list[Any]], Batch | SegzooError], *, seed: int, first: int, size: int
) -> Iterable[Batch]:
    """The `BATCHES` batches of `size` samples from sample number `first` of a run on, read in this process.

    Raises:
        SegzooError: a sample cannot be read.
    """
    samples = Samples(source, seed)
    for number in range(BATCHES):
        start = first + number * size
        batch = collate([samples[place] for place in range(start, start + size)])
        if isinstance(batch, SegzooError):
            raise batch
        yield batch
