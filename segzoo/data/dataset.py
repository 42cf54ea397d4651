"""What every data set offers to evaluation and training, and the reading of one checked pair."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segzoo.errors import DatasetError


class Dataset(Protocol):
    """Pairs of images and labels of one split.

    Attributes:
        name: the data set's name.
        split: "val", "train", ...
        classes: a name for each class.
        num_classes: number of classes; labels hold 0..num_classes-1 and `ignore_value(num_classes)`.
    """

    name: str
    split: str
    classes: list[str]
    num_classes: int

    @property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """An RGB colour for each class, or None."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture, uint8 RGB [H, W, 3]."""
        ...

    def label(self, index: int) -> NDArray[Any]:
        """Class indices [H, W], the label policy applied."""
        ...

    def image_name(self, index: int) -> str:
        """A name of the pair that is unique in the split, without file ending; "/" separates folders."""
        ...

    def fingerprint(self) -> str:
        """64 hex digits that change when the pairs or their meaning change."""
        ...


class Pair(NamedTuple):
    """An image uint8 RGB [H, W, 3] and its class indices [H, W]."""

    name: str
    image: NDArray[np.uint8]
    label: NDArray[Any]


def read_pair(dataset: Dataset, index: int) -> Pair:
    """Image and label at `index`, of one size.

    Raises:
        DatasetError: one of them cannot be read, or their sizes differ.
    """
    name, image, label = dataset.image_name(index), dataset.image(index), dataset.label(index)
    if image.shape[:2] != label.shape:
        raise DatasetError(
            f"image and label {name!r} of {dataset.name} {dataset.split} differ in size: the image has "
            f"{image.shape[0]}x{image.shape[1]} pixels (EXIF orientation applied), the label "
            f"{label.shape[0]}x{label.shape[1]}; they must be of one size"
        )
    return Pair(name, image, label)
