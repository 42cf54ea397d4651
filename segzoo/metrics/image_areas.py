"""Areas by class of every image: what intervals and comparisons over images are computed from, and its text form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segzoo.metrics.iou import Scores


@dataclass(frozen=True, kw_only=True)
class ImageAreas:
    """Pixels by image and class, int64 [N, K] each.

    Attributes:
        intersect: pixels of the class that were predicted as it.
        label_area: pixels of the class.
        prediction_area: pixels predicted as the class.
    """

    intersect: NDArray[np.int64]
    label_area: NDArray[np.int64]
    prediction_area: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.intersect)

    @property
    def union(self) -> NDArray[np.int64]:
        """Pixels of the class or predicted as it, int64 [N, K]."""
        return self.label_area + self.prediction_area - self.intersect

    def total(self) -> Scores:
        """The scores of all images together."""
        return Scores(
            intersect=self.intersect.sum(axis=0),
            label_area=self.label_area.sum(axis=0),
            prediction_area=self.prediction_area.sum(axis=0),
        )

    def of_image(self, index: int) -> Scores:
        """The scores of one image."""
        return Scores(
            intersect=self.intersect[index],
            label_area=self.label_area[index],
            prediction_area=self.prediction_area[index],
        )

    def chosen(self, indices: NDArray[np.int64]) -> ImageAreas:
        """The images at these indices, in their order."""
        return ImageAreas(
            intersect=self.intersect[indices],
            label_area=self.label_area[indices],
            prediction_area=self.prediction_area[indices],
        )


def write_areas(of_image: Scores) -> str:
    """One image's areas as text: "class:intersection/label/prediction", classes without any left out.

    "0:812/900/840 4:0/17/0" says that of 900 pixels of class 0 and 840 predicted as it 812 agree, and that
    17 pixels of class 4 were all missed. It is exact, and a few hundred bytes for a picture of 150 classes.
    """
    present = np.flatnonzero(of_image.union)
    return " ".join(
        f"{index}:{of_image.intersect[index]}/{of_image.label_area[index]}/{of_image.prediction_area[index]}"
        for index in present.tolist()
    )


def read_areas(texts: Iterable[str], num_classes: int) -> ImageAreas:
    """The areas of many images from what `write_areas` made of each.

    Raises:
        ValueError: a text of another form, or a class beyond `num_classes`.
    """
    rows = [_parsed(text, num_classes) for text in texts]
    values = np.stack(rows, axis=1) if rows else np.zeros((3, 0, num_classes), np.int64)
    return ImageAreas(intersect=values[0], label_area=values[1], prediction_area=values[2])


def _parsed(text: str, num_classes: int) -> NDArray[np.int64]:
    """Intersections, label areas and prediction areas: int64 [3, K]."""
    values = np.zeros((3, num_classes), np.int64)
    for word in text.split():
        index, separator, areas = word.partition(":")
        parts = areas.split("/")
        if not separator or len(parts) != 3 or not index.isdecimal() or int(index) >= num_classes:
            raise ValueError(f"{word!r} is no area of one of {num_classes} classes")
        values[:, int(index)] = [int(part) for part in parts]
    return values
