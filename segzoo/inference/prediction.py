"""predict: an image and any model -> the class index of every pixel, by a published test protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segzoo.data.read import read_image
from segzoo.errors import SegzooError
from segzoo.inference.network import Network
from segzoo.inference.preprocess import Image, check_image
from segzoo.inference.tail import confident_label_map, label_map
from segzoo.protocol import Protocol


def predict(
    model: nn.Module,
    image: str | Path | Image,
    protocol: Protocol,
    *,
    device: torch.device | str | None = None,
    dtype: str = "fp32",
    batch_size: int | None = None,
) -> NDArray[Any]:
    """The class index of every pixel of an image: [H, W], uint8 up to 256 classes, else uint16.

    Args:
        model: any module that maps normalised float32 [B, 3, H, W] to logits [B, C, h, w], at any stride;
            in evaluation mode or not, as it was given.
        image: a file, or uint8 RGB [H, W, 3].
        protocol: resize, views, windows and normalisation.
        device: where the input goes; default: where the model is.
        dtype: number format of the network, "fp32", "tf32", "bf16" or "fp16"; labels are always decided in float32.
        batch_size: windows of this image that the network gets at once; default 1 on the CPU, 16 elsewhere.

    Raises:
        DatasetError: the file is missing, unreadable or corrupt, or the array is no picture.
        UsageError: the model cannot run the windows of this protocol, or gives no logits.
        SegzooError: logits that are not finite numbers; out of memory. The message names the file.
    """
    network = Network(model, device=device, dtype=dtype, batch_size=batch_size)
    return predict_with(network, image, protocol)


def predict_with(network: Network, image: str | Path | Image, protocol: Protocol) -> NDArray[Any]:
    """The same as `predict` for a network that is used for many images."""
    if isinstance(image, str | Path):
        try:
            return predict_with(network, read_image(image), protocol)
        except SegzooError as error:
            if str(image) in str(error):
                raise
            raise type(error)(f"{image}: {error}") from error
    image = check_image(image)
    with torch.inference_mode():
        labels, _ = label_map(network.views(image, protocol), count=protocol.views)
    return _as_indices(labels)


def predict_with_confidence(network: Network, image: Image, protocol: Protocol) -> tuple[NDArray[Any], NDArray[Any]]:
    """The labels of `predict_with`, and the softmax probability of each pixel's class: float32 [H, W], 0..1.

    With several views the probability is the mean over them, from which the class was chosen.
    """
    image = check_image(image)
    with torch.inference_mode():
        labels, confidence = confident_label_map(network.views(image, protocol), count=protocol.views)
    return _as_indices(labels), confidence.numpy()


def _as_indices(labels: Tensor) -> NDArray[Any]:
    """Labels as an unsigned array."""
    indices = labels.numpy()
    return indices if indices.dtype == "uint8" else indices.astype("uint16")
