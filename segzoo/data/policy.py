"""Label policies: which value of a label file is which class, which are ignored, and that there are no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from segzoo.errors import DatasetError, UsageError
from segzoo.zoo.schema import LabelPolicy

IGNORE = 255
"""Marks pixels that take no part, with up to 255 classes; see `ignore_value`."""
_WIDE_IGNORE = 65535
_HIGHEST_VALUE = 65535
_VALUES_SHOWN = 5


def ignore_value(num_classes: int) -> int:
    """The index of ignored pixels: 255, or 65535 where 255 is itself a class."""
    return IGNORE if num_classes <= IGNORE else _WIDE_IGNORE


def index_dtype(num_classes: int) -> type[np.unsignedinteger]:
    """The smallest dtype for class indices and the ignored value: uint8, or uint16 with more than 255 classes."""
    return np.uint8 if num_classes <= IGNORE else np.uint16


class LabelTable:
    """A label policy as a look-up table from file values to class indices."""

    def __init__(self, policy: LabelPolicy, num_classes: int) -> None:
        """Builds the table.

        Raises:
            UsageError: a policy that maps to classes that do not exist, or outside the values a file can have.
        """
        classes = _class_of_value(policy, num_classes)
        wrong = sorted(value for value in (*classes, *policy.ignore) if not 0 <= value <= _HIGHEST_VALUE)
        missing = sorted(index for index in classes.values() if not 0 <= index < num_classes)
        if wrong or missing:
            what = f"the file value {wrong[0]}" if wrong else f"class {missing[0]} of {num_classes}"
            raise UsageError(f"the label policy names {what}, which cannot be: {policy}")
        self._described = _describe(policy, classes)
        self._ignored = ignore_value(num_classes)
        # A byte's 256 values at least, so that labels of 8 bits need no look at their range.
        size = max(256, *(value + 1 for value in (*classes, *policy.ignore)))
        self._known = np.zeros(size, bool)
        self._table = np.full(size, ignore_value(num_classes), index_dtype(num_classes))
        for value, index in classes.items():
            self._known[value], self._table[value] = True, index
        for value in policy.ignore:
            self._known[value], self._table[value] = True, ignore_value(num_classes)
        self._unknown = (~self._known[:256]).astype(np.uint8)
        self._first_unknown = int(self._unknown.argmax()) if self._unknown.any() else 256
        self._shift = _shift(self._table[: self._first_unknown])

    def apply(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """Class indices [H, W] (see `index_dtype`, `ignore_value`) of the integer file values [H, W].

        Args:
            values: a label as it is stored.
            name: the label's file, for the message.

        Raises:
            DatasetError: values that the policy does not know, with how many pixels have them.
        """
        if values.size == 0:
            return np.zeros(values.shape, self._table.dtype)
        if values.dtype == np.uint8:
            # Few labels hold a value beyond the first unknown one.
            if values.max() >= self._first_unknown:
                if cv2.LUT(values, self._unknown).any():
                    self._refuse(values, name)
            elif self._shift is not None:
                return values - self._shift
            # OpenCV's look-up is quicker than numpy's.
            return cv2.LUT(values, self._table[:256])
        if values.min() < 0 or values.max() >= len(self._known) or not self._known[values].all():
            self._refuse(values, name)
        return self._table[values]

    def knows(self, values: Iterable[int]) -> bool:
        """Whether every one of these file values is a class or ignored."""
        return all(0 <= value < len(self._known) and self._known[value] for value in values)

    def index(self, value: int) -> int | None:
        """The class of a file value; None where it is ignored or not known."""
        if not self.knows((value,)):
            return None
        index = int(self._table[value])
        return None if index == self._ignored else index

    def _refuse(self, values: NDArray[Any], name: str) -> NoReturn:
        present, counts = np.unique(values, return_counts=True)
        unknown = [
            (int(value), int(count))
            for value, count in zip(present, counts, strict=True)
            if not (0 <= value < len(self._known) and self._known[value])
        ]
        shown = ", ".join(f"{value} in {count} pixels" for value, count in unknown[:_VALUES_SHOWN])
        more = f" and {len(unknown) - _VALUES_SHOWN} more values" if len(unknown) > _VALUES_SHOWN else ""
        raise DatasetError(
            f"the label {name} has the value {shown}{more}, which its label policy ({self._described}) does not "
            "know; correct the label, or the policy in the manifest"
        )


def _shift(table: NDArray[Any]) -> np.uint8 | None:
    """The number that each value is greater than its class by, in arithmetic of bytes; None where there is no one.

    With classes from 1 on and 0 ignored it is 1: 0 - 1 is 255.
    """
    if table.dtype != np.uint8 or len(table) == 0:
        return None
    shifts = np.arange(len(table), dtype=np.uint8) - table
    return np.uint8(shifts[0]) if (shifts == shifts[0]).all() else None


def _class_of_value(policy: LabelPolicy, num_classes: int) -> dict[int, int]:
    """File value -> class index. An ignored value is no class, even where the offset would make it one."""
    if policy.mapping is not None:
        return dict(policy.mapping)
    values = {policy.first + index: index for index in range(num_classes)}
    return {value: index for value, index in values.items() if value not in policy.ignore}


def _describe(policy: LabelPolicy, classes: dict[int, int]) -> str:
    known = f"classes {min(classes)} to {max(classes)}" if classes else "no classes"
    if len(classes) != max(classes, default=0) - min(classes, default=0) + 1:
        known += " with gaps"
    return f"{known}, ignored: {', '.join(map(str, policy.ignore)) or 'none'}"
