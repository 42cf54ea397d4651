"""The readable forms of the operators of training_crop.py: OpenCV's resize and HSV, look-up tables, plain PyTorch."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HUES = 180
"""Values of H in 8 bits."""
_HUE, _SATURATION = 0, 1


def training_crop(picture: Tensor, size: list[int], box: list[int], mirrored: bool, steps: list[float]) -> Tensor:
    """See `segzoo.kernels.training_crop`; `steps` as `numbers_of` gives them."""
    image = picture.contiguous().numpy()
    top, bottom, left, right = box
    if image.shape[:2] != tuple(size):
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    cut = image[top:bottom, left:right]
    return torch.from_numpy(distort((cut[:, ::-1] if mirrored else cut).copy(), steps))


def label_crop(label: Tensor, size: list[int], box: list[int]) -> tuple[Tensor, Tensor]:
    """See `segzoo.kernels.training_crop`."""
    values = label.contiguous().numpy()
    top, bottom, left, right = box
    if values.shape != tuple(size):
        values = cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    crop = torch.from_numpy(values[top:bottom, left:right].copy())
    return crop, torch.bincount(crop.flatten(), minlength=256)


def normalised_crops(
    crops: Tensor, extents: Tensor, mean: list[float], std: list[float], channels_last: bool
) -> Tensor:
    """See `segzoo.kernels.training_crop`; [B, H, W, 3] where channels are last, else [B, 3, H, W]."""
    values = crops.to(torch.float32) if channels_last else crops.permute(0, 3, 1, 2).to(torch.float32).contiguous()
    shape = (3,) if channels_last else (3, 1, 1)
    # Multiplied as OpenCV does it for the published pipeline: with the reciprocal, rounded to float32.
    scale = values.new_tensor([1.0 / deviation for deviation in std])
    values.sub_(values.new_tensor(mean).view(shape)).mul_(scale.view(shape))
    for value, (rows, columns) in zip(values, extents.tolist(), strict=True):
        pixels = value if channels_last else value.permute(1, 2, 0)
        pixels[rows:] = 0.0
        pixels[:, columns:] = 0.0
    return values


def distort(image: NDArray[np.uint8], steps: list[float]) -> NDArray[np.uint8]:
    """`image` in other colours: uint8 RGB [H, W, 3]; itself where nothing is to be done."""
    brightness, contrast, saturation, late = (_table(*steps[at : at + 2]) for at in (0, 2, 4, 6))
    image = _look_up(image, brightness, contrast)
    if saturation is not None:
        image = _through_hsv(image, _SATURATION, saturation)
    if not math.isnan(steps[8]):
        shifted = ((np.arange(256) + int(steps[8])) % HUES).astype(np.uint8)
        image = _through_hsv(image, _HUE, shifted)
    return _look_up(image, late)


def _table(factor: float, shift: float) -> NDArray[np.uint8] | None:
    """value * factor + shift in float32, clipped and cut (not rounded) to a whole number, for each of 256 values."""
    if math.isnan(factor):
        return None
    values = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return np.clip(values, 0, 255).astype(np.uint8)


def _look_up(image: NDArray[np.uint8], *tables: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """One table for all steps gives the numbers of the steps in turn: each ends with whole numbers."""
    joined = None
    for table in tables:
        if table is not None:
            joined = table if joined is None else table[joined]
    return image if joined is None else cv2.LUT(image, joined)  # type: ignore[return-value]


def _through_hsv(image: NDArray[np.uint8], channel: int, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """To HSV, one channel through a table of 256 values, and back."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, channel), table), hsv, channel)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]
