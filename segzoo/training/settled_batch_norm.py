"""Batch norms with settled statistics: averages over many batches with the weights as they are.

The running statistics lag behind weights that move fast, and those of maps of one pixel come from as many values as a
batch has images: at rates that a small network trains best with, they say little about it. Precise statistics
("precise batch norm", Wu and Johnson 2021, arXiv 2105.07576) before an evaluation, and fixed ones in the last part of
a training, mend that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segzoo.data import Dataset
from segzoo.inference.preprocess import network_input
from segzoo.protocol import Protocol

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


def batches_of_pictures(dataset: Dataset, pictures: int, protocol: Protocol, size: int) -> Iterator[Tensor]:
    """At most `BATCHES` batches [size, 3, H, W] of training pictures as the test protocol feeds them to the network.

    Training samples would not do: padding, and scales and colours that no test has, are a part of their averages. The
    pictures are spread evenly over the first `pictures`; those of a batch are cut in the middle to their smallest
    height and width.

    Raises:
        DatasetError: a picture cannot be read.
    """
    count = min(pictures, BATCHES * size) // size * size or pictures
    places = np.linspace(0, pictures - 1, count).astype(int)
    for start in range(0, count, size):
        images = [network_input(dataset.image(int(place)), protocol) for place in places[start : start + size]]
        height, width = (min(image.shape[axis] for image in images) for axis in (1, 2))
        yield torch.stack([_middle(image, height, width) for image in images])


def _middle(image: Tensor, height: int, width: int) -> Tensor:
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]
