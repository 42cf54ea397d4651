"""The operators that make a batch of training crops: segzoo::training_crop, label_crop and normalised_crops.

The first two give a part of a resized picture or label without the rest of it. The references do it step by step with
OpenCV and stand at CompositeExplicitAutograd; the compiled kernels give the same bytes row by row, and read and write
only what the crop needs. The third makes bytes the network's input. They have no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.kernels import training_crop_reference

_library = torch.library.Library("segzoo", "FRAGMENT")
_library.define("training_crop(Tensor picture, int[] size, int[] box, bool mirrored, float[] steps) -> Tensor")
_library.define("label_crop(Tensor label, int[] size, int[] box) -> (Tensor, Tensor)")
_library.define(
    "normalised_crops(Tensor crops, Tensor extents, float[] mean, float[] std, bool channels_last) -> Tensor"
)
_library.impl("normalised_crops", training_crop_reference.normalised_crops, "CompositeExplicitAutograd")
_library.impl("label_crop", training_crop_reference.label_crop, "CompositeExplicitAutograd")
_library.impl("training_crop", training_crop_reference.training_crop, "CompositeExplicitAutograd")


@dataclass(frozen=True, kw_only=True)
class ColourSteps:
    """What is done to the colours, in this order; None leaves a step out. Each ends with cutting to whole numbers.

    Attributes:
        brightness: is added to every value.
        early_contrast: factor on every value, before saturation and hue.
        saturation: factor on S of 8-bit HSV.
        hue: is added to H of 8-bit HSV, in units of 2 degrees.
        late_contrast: factor on every value, after them.
    """

    brightness: float | None = None
    early_contrast: float | None = None
    saturation: float | None = None
    hue: int | None = None
    late_contrast: float | None = None


def training_crop(
    picture: NDArray[np.uint8],
    size: tuple[int, int],
    box: Sequence[int],
    *,
    mirrored: bool,
    steps: ColourSteps,
) -> NDArray[np.uint8]:
    """The part `box` of `picture` resized bilinearly to `size`, mirrored where wanted, in other colours.

    Args:
        picture: uint8 RGB [h, w, 3].
        size: (height, width) of the resized picture, as OpenCV's INTER_LINEAR makes it.
        box: rows top to bottom - 1, columns left to right - 1 of it, as (top, bottom, left, right).
        mirrored: left and right change places.
        steps: see `ColourSteps`.

    Returns:
        uint8 RGB [bottom - top, right - left, 3].
    """
    result = torch.ops.segzoo.training_crop(_tensor(picture), size, list(box), mirrored, numbers_of(steps))
    return result.numpy()


def label_crop(
    label: NDArray[np.uint8], size: tuple[int, int], box: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The part `box` of `label` resized to `size` by its nearest neighbours, and how many pixels have each value.

    Args:
        label: uint8 [h, w].
        size: (height, width) of the resized label, as OpenCV's INTER_NEAREST makes it (no half-pixel shift).
        box: (top, bottom, left, right) of it.

    Returns:
        uint8 [bottom - top, right - left], and int64 [256].
    """
    crop, counts = torch.ops.segzoo.label_crop(_tensor(label), size, list(box))
    return crop.numpy(), counts.numpy()


def normalised_crops(
    crops: Tensor, extents: Tensor, mean: Sequence[float], std: Sequence[float], *, channels_last: bool
) -> Tensor:
    """Crops of bytes as the network's input: (value - mean) * (1 / std), and zeros in the padding.

    Args:
        crops: uint8 RGB [B, H, W, 3], on any device.
        extents: int64 [B, 2], height and width of each crop without its padding at the bottom and right.
        mean: by channel, in 0..255.
        std: by channel, in 0..255.
        channels_last: memory layout of the result.

    Returns:
        float32 [B, 3, H, W], in memory of its own.
    """
    result: Tensor = torch.ops.segzoo.normalised_crops(crops, extents, list(mean), list(std), channels_last)
    return result.permute(0, 3, 1, 2) if channels_last else result


def _tensor(array: NDArray[np.uint8]) -> Tensor:
    """A tensor over the same memory; torch takes neither mirrored arrays nor, without a warning, read-only ones."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def numbers_of(steps: ColourSteps) -> list[float]:
    """Factor and shift of brightness, early contrast, saturation and late contrast, and the hue; nan leaves out."""
    factors = steps.early_contrast, steps.saturation, steps.late_contrast
    pairs = [(math.nan if factor is None else factor, 0.0) for factor in factors]
    brightness = (math.nan, 0.0) if steps.brightness is None else (1.0, steps.brightness)
    hue = math.nan if steps.hue is None else float(steps.hue % training_crop_reference.HUES)
    return [*brightness, *(number for pair in pairs for number in pair), hue]


@torch.library.register_fake("segzoo::training_crop")
def _fake(picture: Tensor, size: list[int], box: list[int], mirrored: bool, steps: list[float]) -> Tensor:
    return picture.new_empty(box[1] - box[0], box[3] - box[2], 3)


@torch.library.register_fake("segzoo::label_crop")
def _fake_label(label: Tensor, size: list[int], box: list[int]) -> tuple[Tensor, Tensor]:
    return label.new_empty(box[1] - box[0], box[3] - box[2]), label.new_empty(256, dtype=torch.int64)


@torch.library.register_fake("segzoo::normalised_crops")
def _fake_batch(crops: Tensor, extents: Tensor, mean: list[float], std: list[float], channels_last: bool) -> Tensor:
    samples, height, width, channels = crops.shape
    shape = (samples, height, width, channels) if channels_last else (samples, channels, height, width)
    return crops.new_empty(shape, dtype=torch.float32)
