"""Keeps drawn pictures on disk, so that a training that sees them many times draws each of them once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.data.dataset import Dataset

_DONE = b"\x01"


class DrawnOnce:
    """A data set of pictures of one size whose pairs are written to a file when they are first asked for.

    Any number of processes may read and write at once: what they write is the same. A disk that is full or read-only
    costs speed and nothing else.

    Attributes:
        name, split, classes, palette, num_classes: those of the data set.
    """

    def __init__(self, dataset: Dataset, folder: Path, size: tuple[int, int]) -> None:
        """Opens or makes the file below `folder`; its name holds the data set's fingerprint.

        Args:
            size: height and width of every picture.
        """
        self.dataset = dataset
        self.name, self.split = dataset.name, dataset.split
        self.classes, self.num_classes = dataset.classes, dataset.num_classes
        self.size = size
        self.path = folder / f"{dataset.name}-{dataset.split}-{dataset.fingerprint()[:16]}.pairs"
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    @property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """An RGB colour for each class, or None."""
        return self.dataset.palette

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture, uint8 RGB [H, W, 3]."""
        return self._pair(index)[..., :3]

    def label(self, index: int) -> NDArray[Any]:
        """Class indices [H, W]."""
        return self._pair(index)[..., 3]

    def image_name(self, index: int) -> str:
        """The data set's own name of the pair."""
        return self.dataset.image_name(index)

    def fingerprint(self) -> str:
        """That of the data set."""
        return self.dataset.fingerprint()

    def _pair(self, index: int) -> NDArray[np.uint8]:
        """Image and label as four channels [H, W, 4]."""
        last = self._last
        if last is None or last[0] != index:
            values = self._read(index)
            if values is None:
                values = np.dstack([self.dataset.image(index), self.dataset.label(index)])
                self._write(index, values)
            last = self._last = (index, values)
        return last[1]

    def _read(self, index: int) -> NDArray[np.uint8] | None:
        height, width = self.size
        length = height * width * 4
        try:
            with self.path.open("rb") as file:
                content = os.pread(file.fileno(), length + 1, index * (length + 1))
        except OSError:
            return None
        if len(content) <= length or content[-1:] != _DONE:
            return None
        return np.frombuffer(content, np.uint8, length).reshape(height, width, 4)

    def _write(self, index: int, values: NDArray[np.uint8]) -> None:
        start = index * (values.size + 1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                # The mark comes last, and only after the whole pair was written.
                if os.pwrite(descriptor, values.tobytes(), start) == values.size:
                    os.pwrite(descriptor, _DONE, start + values.size)
            finally:
                os.close(descriptor)
        except OSError:
            return
