"""Labels that show each class in its colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.data.policy import ignore_value, index_dtype
from segzoo.errors import DatasetError, UsageError

Colour = tuple[int, int, int]
_COLOURS_SHOWN = 5


class ColourTable:
    """From colours to class indices.

    Attributes:
        colours: the classes' colours and those that are ignored, for the fingerprint.
    """

    def __init__(self, classes: Sequence[str], palette: Sequence[Colour] | None, ignored: Sequence[Colour]) -> None:
        """Builds the table.

        Raises:
            UsageError: no palette, or one colour for two classes.
        """
        if palette is None:
            raise UsageError("labels that are colours need a palette: give each class its colour")
        self.colours = [list(palette), list(ignored)]
        indices = [*range(len(palette)), *[ignore_value(len(palette))] * len(ignored)]
        keys = _keys(np.array([*palette, *ignored], np.uint8))
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._indices = np.array(indices)[order].astype(index_dtype(len(palette)))
        twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if twice.size:
            colour = _colour(self._keys[twice[0]])
            names = [classes[index] for index in self._indices[twice[0] : twice[0] + 2] if index < len(classes)]
            raise UsageError(f"the colour {colour} stands for more than one class ({', '.join(names)}, or ignored)")

    def apply(self, picture: NDArray[np.uint8], name: str) -> NDArray[Any]:
        """Class indices [H, W] of colours RGB [H, W, 3].

        Raises:
            DatasetError: colours that are no class's, with how many pixels have them.
        """
        keys = _keys(picture)
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        unknown = self._keys[places] != keys
        if unknown.any():
            found, counts = np.unique(keys[unknown], return_counts=True)
            shown = [f"{_colour(found[at])} in {counts[at]} pixels" for at in np.argsort(-counts)[:_COLOURS_SHOWN]]
            more = f" and {len(found) - _COLOURS_SHOWN} more colours" if len(found) > _COLOURS_SHOWN else ""
            raise DatasetError(
                f"the label {name} has the colour {', '.join(shown)}{more}, which is no class's and not ignored; "
                "correct the label or the palette, or add it to ignore_colours"
            )
        return self._indices[places]


def _keys(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def _colour(key: Any) -> Colour:
    return (int(key) >> 16, (int(key) >> 8) & 255, int(key) & 255)
