"""The confusion matrix: exact integer counts, added up image by image in constant memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTE_VALUES = 256


class ConfusionMatrix:
    """Counts of pixels by label and prediction.

    Follows mmsegmentation's intersect_and_union (0.16 and later) with integers in place of float32
    sums. Pixels whose label is the ignored value count nowhere, their predictions neither. A label of
    `num_classes` or more that is not the ignored value stays in the predictions' areas, and with them
    in the unions, but in no label's area: it has the last row. (mmsegmentation 0.11 counted a label
    equal to `num_classes` as the last class; that is not repeated here.) A prediction of `num_classes`
    or more has the last column.

    Attributes:
        num_classes: K.
        ignore: the label value that is left out.
        counts: int64 [K+1, K+1], labels down, predictions across.
    """

    def __init__(self, num_classes: int, *, ignore: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"a confusion matrix needs at least one class, not {num_classes}")
        self.num_classes = num_classes
        self.ignore = ignore
        self.counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def update(self, prediction: NDArray[Any], label: NDArray[Any]) -> NDArray[np.int64]:
        """Adds one image and returns its own counts [K+1, K+1].

        Args:
            prediction: class indices, integers not below 0, of the label's shape.
            label: class indices or the ignored value, integers not below 0.

        Raises:
            ValueError: shapes that differ or values that are no integers.
        """
        if prediction.shape != label.shape:
            raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
        for array, name in ((prediction, "prediction"), (label, "label")):
            if array.dtype.kind not in "iu":
                raise ValueError(f"{name} must hold integers, not {array.dtype}")
        small = _as_bytes(prediction), _as_bytes(label)
        if small[0] is not None and small[1] is not None:
            of_image = self._of_bytes(small[0], small[1])
        else:
            of_image = self._of(prediction, label)
        self.counts += of_image
        return of_image

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds the counts of another matrix over the same classes."""
        if (other.num_classes, other.ignore) != (self.num_classes, self.ignore):
            raise ValueError("confusion matrices of different classes or ignored values cannot be added")
        self.counts += other.counts

    def _of_bytes(self, prediction: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.int64]:
        """All 256 x 256 pairs of bytes are counted without a look at what they mean; the sorting comes after."""
        code = label.astype(np.uint16)
        code <<= 8
        code |= prediction
        pairs = np.bincount(code.ravel(), minlength=_BYTE_VALUES**2).reshape(_BYTE_VALUES, _BYTE_VALUES)
        if 0 <= self.ignore < _BYTE_VALUES:
            pairs[self.ignore] = 0
        classes = min(self.num_classes, _BYTE_VALUES)
        folded = np.zeros_like(self.counts)
        folded[:classes, :classes] = pairs[:classes, :classes]
        folded[-1, :classes] = pairs[classes:, :classes].sum(axis=0)
        folded[:classes, -1] = pairs[:classes, classes:].sum(axis=1)
        folded[-1, -1] = pairs[classes:, classes:].sum()
        return folded

    def _of(self, prediction: NDArray[Any], label: NDArray[Any]) -> NDArray[np.int64]:
        valid = label != self.ignore
        rows = np.minimum(label[valid].astype(np.int64), self.num_classes)
        columns = np.minimum(prediction[valid].astype(np.int64), self.num_classes)
        if rows.size and min(rows.min(), columns.min()) < 0:
            raise ValueError("class indices below 0 that are not the ignored value")
        side = self.num_classes + 1
        return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def _as_bytes(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The values as bytes, or None where one of them is none."""
    if values.dtype == np.uint8:
        return values
    if values.size and values.min() >= 0 and values.max() < _BYTE_VALUES:
        return values.astype(np.uint8)
    return None
