"""The readable forms of segzoo::training_crop and label_crop: OpenCV's resize and HSV, and look-up tables."""

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
