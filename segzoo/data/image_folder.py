"""Pictures for classification in a folder for each class, as ImageNet is unpacked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segzoo.data.read import read_image
from segzoo.errors import DatasetError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class ImageFolder:
    """ROOT/SPLIT/CLASS/**/picture; classes are numbered in the order of their names.

    Attributes:
        name, split: of the data.
        classes: names of the folders.
    """

    def __init__(self, root: Path, split: str) -> None:
        """Lists the files; none is opened.

        Raises:
            DatasetError: no folder, no classes or a class without pictures.
        """
        folder = root / split
        if not folder.is_dir():
            raise DatasetError(f"there is no folder {folder}; pictures lie in {root}/train/CLASS and {root}/val/CLASS")
        self.name, self.split, self.root = root.resolve().name, split, folder
        self.classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        if not self.classes:
            raise DatasetError(f"{folder} has no folders; it needs one for each class")
        self._files = [(path, index) for index, name in enumerate(self.classes) for path in _pictures(folder / name)]

    def __len__(self) -> int:
        return len(self._files)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture, uint8 RGB [H, W, 3].

        Raises:
            DatasetError: missing, truncated or corrupt.
        """
        return read_image(self._files[index][0])

    def class_of(self, index: int) -> int:
        """The number of the picture's class."""
        return self._files[index][1]

    def image_name(self, index: int) -> str:
        """Class and file."""
        return self._files[index][0].relative_to(self.root).as_posix()

    def fingerprint(self) -> str:
        """SHA-256 over the names and sizes in bytes of all files."""
        digest = hashlib.sha256()
        for index, (path, _) in enumerate(self._files):
            digest.update(f"{self.image_name(index)} {path.stat().st_size}\n".encode())
        return digest.hexdigest()


def _pictures(folder: Path) -> list[Path]:
    found = [
        Path(parent, file)
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file.lower().endswith(_SUFFIXES) and not file.startswith(".")
    ]
    if not found:
        raise DatasetError(f"the class folder {folder} has no picture ({', '.join(_SUFFIXES)})")
    return sorted(found)
