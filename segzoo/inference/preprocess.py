"""Image -> network input: keep-ratio resize, aligned resize, normalisation, bit for bit as the published tool chain.

Shapes: H, W are the image's rows and columns in pixels. Images are uint8 RGB [H, W, 3]; every step is per channel,
so that the results equal those of a chain that works on BGR.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.errors import DatasetError, UsageError
from segzoo.protocol import Protocol

Image = NDArray[np.uint8]


def check_image(image: Any) -> Image:
    """`image` itself, when it is a picture: uint8 RGB [H, W, 3] with at least one pixel.

    Raises:
        DatasetError: another type, shape or a picture without pixels.
    """
    if not isinstance(image, np.ndarray):
        raise DatasetError(f"an image is a path or a uint8 RGB array [H, W, 3], not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DatasetError(f"an image is a uint8 RGB array [H, W, 3], not {image.dtype} {list(image.shape)}")
    if image.size == 0:
        raise DatasetError(f"the image has no pixels: its size is {image.shape[0]} x {image.shape[1]}")
    return image


def resized_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that fits `size` (height, width) into `scale` and keeps the ratio of the sides.

    The longer side stays within the larger number of `scale`, the shorter within the smaller; a small
    image grows. Rounded half up in double precision (mmcv's rule, not Python's `round`).
    """
    height, width = size
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def view_size(size: tuple[int, int], protocol: Protocol, ratio: float) -> tuple[int, int]:
    """(height, width) of the keep-ratio resize for one of the protocol's ratios, before any alignment.

    Without `scale` the sides are multiplied by the ratio.

    Raises:
        UsageError: an image so long, or a ratio so small, that a side would have no pixels.
    """
    if protocol.scale is None:
        resized = int(size[0] * ratio + 0.5), int(size[1] * ratio + 0.5)
    else:
        resized = resized_size(size, (int(protocol.scale[0] * ratio), int(protocol.scale[1] * ratio)))
    if min(resized) < 1:
        raise UsageError(
            f"an image of {size[0]} x {size[1]} becomes {resized[0]} x {resized[1]} at ratio {ratio} "
            f"of scale {protocol.scale}; use a larger scale"
        )
    return resized


def resize(image: Image, size: tuple[int, int]) -> Image:
    """`image` at `size` (height, width): OpenCV's bilinear resize of uint8, without antialiasing.

    The rounding of this function to 8 bits is part of every published number: sampling in float, or with
    antialiasing, changes 0.5 % of the labels.
    """
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def aligned_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """`size` with both sides brought up to the next multiple of `divisor`."""
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def normalise(image: Image, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """(image - mean) / std in float32, as a contiguous tensor [3, H, W] on the CPU.

    The division is what the tool chain's result is bit-equal to; a product with 1/std is not.
    """
    # The cast of a permuted view writes channel by channel, which saves a copy.
    pixels = torch.from_numpy(image).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.sub_(_per_channel(mean)).div_(_per_channel(std))


def input_size(size: tuple[int, int], protocol: Protocol, ratio: float) -> tuple[int, int]:
    """(height, width) of the network's input for one ratio, with any alignment; see `view_size`."""
    resized = view_size(size, protocol, ratio)
    return resized if protocol.size_divisor is None else aligned_size(resized, protocol.size_divisor)


def resized_image(image: Image, protocol: Protocol, ratio: float = 1.0) -> Image:
    """The image at the size that the network gets it for one ratio, uint8 still.

    Raises:
        UsageError: no pixels would be left.
    """
    resized = resize(image, view_size(image.shape[:2], protocol, ratio))
    if protocol.size_divisor is not None:
        # A second resize of the rounded result of the first, not one from the original picture.
        resized = resize(resized, aligned_size(resized.shape[:2], protocol.size_divisor))
    return resized


def network_input(image: Image, protocol: Protocol, ratio: float = 1.0) -> Tensor:
    """The network's input for one ratio, not mirrored: float32 [3, H, W], normalised, contiguous.

    Raises:
        UsageError: no pixels would be left.
    """
    return normalise(resized_image(image, protocol, ratio), protocol.mean, protocol.std)


def flip(pixels: Tensor, direction: str) -> Tensor:
    """Mirrors [..., H, W]: "horizontal" swaps left and right, "vertical" top and bottom."""
    return pixels.flip(-1 if direction == "horizontal" else -2)


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
