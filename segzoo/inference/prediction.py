"""predict: an image and any model -> the class index of every pixel, by a published test protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segzoo.data.read import read_image
from segzoo.errors import SegzooError
from segzoo.inference import streaming
from segzoo.inference.network import Network
from segzoo.inference.preprocess import Image, check_image
from segzoo.inference.tail import Counting, confident_label_map, label_map
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
        labels, _ = _label_and_count(network, image, protocol, None)
    return _as_indices(labels)


def predict_and_count(
    network: Network, image: Image, protocol: Protocol, target: NDArray[Any], *, num_classes: int, ignore: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The labels of `predict_with`, and their confusion matrix with the true classes `target` [H, W].

    The counts, int64 [K + 1, K + 1], are those of `segzoo.metrics.ConfusionMatrix`, made while the labels are.

    Raises:
        ValueError: a target that has another size than the image, or no integers.
    """
    image = check_image(image)
    counting = Counting(target=_as_target(target), num_classes=num_classes, ignore=ignore)
    with torch.inference_mode():
        labels, counts = _label_and_count(network, image, protocol, counting)
    return _as_indices(labels), counts.numpy()


def _label_and_count(
    network: Network, image: Image, protocol: Protocol, counting: Counting | None
) -> tuple[Tensor, Tensor]:
    if streaming.exceeds(network, image, protocol, streaming.LIMIT_BYTES):
        limit = streaming.LIMIT_BYTES
        return streaming.streamed_label_map(network, image, protocol, limit_bytes=limit, counting=counting)
    return label_map(network.views(image, protocol), count=protocol.views, counting=counting)


def _as_target(target: NDArray[Any]) -> Tensor:
    """True classes as a tensor: bytes as they are, other integers as int64."""
    if target.dtype.kind not in "iu":
        raise ValueError(f"true classes are integers, not {target.dtype}")
    return torch.from_numpy(np.ascontiguousarray(target if target.dtype == np.uint8 else target.astype(np.int64)))


def predict_with_confidence(network: Network, image: Image, protocol: Protocol) -> tuple[NDArray[Any], NDArray[Any]]:
    """The labels of `predict_with`, and the softmax probability of each pixel's class: float32 [H, W], 0..1.

    With several views the probability is the mean over them, from which the class was chosen.
    """
    image = check_image(image)
    with torch.inference_mode():
        if streaming.exceeds(network, image, protocol, limit := streaming.LIMIT_BYTES):
            confidence = torch.empty(image.shape[:2])
            labels, _ = streaming.streamed_label_map(network, image, protocol, limit_bytes=limit, confidence=confidence)
        else:
            labels, confidence = confident_label_map(network.views(image, protocol), count=protocol.views)
    return _as_indices(labels), confidence.numpy()


def _as_indices(labels: Tensor) -> NDArray[Any]:
    """Labels as an unsigned array."""
    indices = labels.numpy()
    return indices if indices.dtype == "uint8" else indices.astype("uint16")
