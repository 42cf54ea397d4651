"""What was counted in one image, by measure, in a form that is small to keep, to send and to add up."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sparse:
    """An array without its zeros: an image shows few of a data set's classes, and confuses few pairs of them."""

    shape: tuple[int, ...]
    places: NDArray[np.int32]
    values: NDArray[Any]

    @staticmethod
    def of(array: NDArray[Any]) -> Sparse:
        """The array's values that are not 0, with their places in the flat array."""
        flat = array.ravel()
        places = np.flatnonzero(flat)
        return Sparse(array.shape, places.astype(np.int32), flat[places])

    def array(self) -> NDArray[Any]:
        """The whole array again."""
        whole = np.zeros(self.shape, self.values.dtype)
        whole.reshape(-1)[self.places] = self.values
        return whole


ImageCounts = Mapping[str, Sparse]
"""By measure ("confusion", ...): an array that is added up over the images."""


def sparse_of(arrays: Mapping[str, NDArray[Any]]) -> ImageCounts:
    """The arrays of an image's measures without their zeros."""
    return {measure: Sparse.of(array) for measure, array in arrays.items()}


def arrays_of(counts: ImageCounts) -> dict[str, NDArray[Any]]:
    """The whole arrays again."""
    return {measure: part.array() for measure, part in counts.items()}


def as_words(counts: ImageCounts) -> dict[str, Any]:
    """The counts as plain JSON, exact."""
    return {
        measure: {
            "shape": list(part.shape),
            "dtype": part.values.dtype.name,
            "places": base64.b64encode(part.places.tobytes()).decode(),
            "values": base64.b64encode(part.values.tobytes()).decode(),
        }
        for measure, part in counts.items()
    }


def from_words(words: Mapping[str, Any]) -> ImageCounts:
    """The counts that `as_words` wrote.

    Raises:
        KeyError, ValueError, TypeError: words of another form.
    """
    return {
        measure: Sparse(
            tuple(part["shape"]),
            np.frombuffer(base64.b64decode(part["places"]), np.int32),
            np.frombuffer(base64.b64decode(part["values"]), np.dtype(part["dtype"])),
        )
        for measure, part in words.items()
    }
