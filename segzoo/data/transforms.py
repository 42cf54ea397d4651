"""Training augmentations, draw for draw those of mmsegmentation 0.x: scale, crop, mirror, photometric distortion.

What is drawn depends on nothing but the random source, and its order is the published pipeline's; the pixels follow
from the draws. Images are uint8 RGB [H, W, 3], labels class indices [H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segzoo.data.policy import ignore_value
from segzoo.data.transforms_colour import draw_colours
from segzoo.errors import DatasetError
from segzoo.kernels.training_crop import ColourSteps, label_crop, training_crop

_CROP_TRIES = 10


class Draws(Protocol):
    """A random source, such as numpy's Generator."""

    def random(self) -> float:
        """A number from [0, 1)."""
        ...

    def integers(self, low: int, high: int) -> int:
        """A whole number from low to high - 1."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A number from [low, high)."""
        ...


class Box(NamedTuple):
    """A crop of an image: rows top to bottom - 1, columns left to right - 1."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What a recipe does to a training picture.

    Attributes:
        crop: (height, width) of the result in pixels; a smaller picture is padded.
        scale: limits (long, short) in pixels of the keep-ratio resize; None starts from the picture's own size.
        scale_range: the factor on `scale` is drawn from it.
        category_max_ratio: a crop of which one class fills this share or more is drawn again, ten times at most.
        flip: probability of mirroring.
        photometric: brightness, contrast, saturation and hue are drawn.
        num_classes: of the labels; it says which value is ignored.
    """

    crop: tuple[int, int]
    scale: tuple[int, int] | None
    scale_range: tuple[float, float]
    category_max_ratio: float | None
    flip: float
    photometric: bool
    num_classes: int


class Sample(NamedTuple):
    """A training picture: uint8 [h, w, 3] and indices [h, w], at most as large as the crop and not yet padded.

    Attributes:
        maps: whatever else was given for the pixels, cut alike.
    """

    image: NDArray[np.uint8]
    label: NDArray[Any]
    maps: list[NDArray[Any]]


def augmented(
    image: NDArray[np.uint8],
    label: NDArray[Any],
    rule: Augmentation,
    draws: Draws,
    maps: Sequence[NDArray[Any]] = (),
) -> Sample:
    """One training sample; of the resized picture only the crop's part is coloured and kept.

    The label decides which crop is taken, so it comes first. `maps` are resized as labels are; their values stay
    when they are mirrored, as in the published pipeline (UN-EPT's angles are not turned).

    Raises:
        DatasetError: a picture so thin that a side would have no pixels.
    """
    size = draw_size(image.shape[:2], rule, draws)
    box, cut_label = draw_crop(label, size, rule, draws)
    mirrored = draws.random() < rule.flip
    colours = draw_colours(draws) if rule.photometric else ColourSteps()
    fields = [cut_label, *(part_of(field, size, box)[0] for field in maps)]
    label, *rest = (cv2.flip(field, 1) if mirrored else field for field in fields)
    return Sample(training_crop(image, size, box, mirrored=mirrored, steps=colours), label, rest)


def draw_size(size: tuple[int, int], rule: Augmentation, draws: Draws) -> tuple[int, int]:
    """(height, width) of the keep-ratio resize: a factor of `scale_range` on `scale`, each limit cut to an integer."""
    low, high = rule.scale_range
    ratio = draws.random() * (high - low) + low
    height, width = size
    scale = rule.scale or (max(size), min(size))
    limits = int(scale[0] * ratio), int(scale[1] * ratio)
    factor = min(max(limits) / max(size), min(limits) / min(size))
    resized = int(height * factor + 0.5), int(width * factor + 0.5)
    if min(resized) < 1:
        raise DatasetError(f"a picture of {height} x {width} pixels has no pixels left at scale {limits}")
    return resized


def draw_crop(label: NDArray[Any], size: tuple[int, int], rule: Augmentation, draws: Draws) -> tuple[Box, NDArray[Any]]:
    """Where to cut the pictures resized to `size`, and the label there.

    It is drawn again while one class has too large a share; what comes after ten failures is taken.
    """
    box = _draw_box(size, rule.crop, draws)
    cut, counts = part_of(label, size, box)
    if rule.category_max_ratio is None:
        return box, cut
    for _ in range(_CROP_TRIES):
        labelled = counts[: ignore_value(rule.num_classes)]
        present = labelled[labelled > 0]
        if len(present) > 1 and present.max() / present.sum() < rule.category_max_ratio:
            break
        box = _draw_box(size, rule.crop, draws)
        cut, counts = part_of(label, size, box)
    return box, cut


def part_of(label: NDArray[Any], size: tuple[int, int], box: Box) -> tuple[NDArray[Any], NDArray[Any]]:
    """The part `box` of a label resized to `size`, and how many of its pixels have each value.

    Nearest neighbours by OpenCV's rule (no half-pixel shift). Maps that hold no classes are not counted.
    """
    if label.dtype == np.uint8:
        return label_crop(np.ascontiguousarray(label), size, box)
    resized = label
    if label.shape != size:
        resized = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
    cut = np.ascontiguousarray(resized[box.top : box.bottom, box.left : box.right])
    return cut, np.bincount(cut.ravel()) if cut.dtype == np.uint16 else np.zeros(0, np.int64)


def _draw_box(size: tuple[int, ...], crop: tuple[int, int], draws: Draws) -> Box:
    height, width = size
    top = int(draws.integers(0, max(height - crop[0], 0) + 1))
    left = int(draws.integers(0, max(width - crop[1], 0) + 1))
    return Box(top, min(top + crop[0], height), left, min(left + crop[1], width))
