"""Data sets that are folders of images and folders of labels, paired by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from segzoo.data.policy import LabelTable
from segzoo.data.read import read_image, read_label
from segzoo.errors import DatasetError
from segzoo.zoo import schema

_NAMES_SHOWN = 3


class FoldersDataset:
    """Images and label files of one split, in the order of their names.

    Attributes:
        name, split: as the manifest calls them.
        root: the data set's folder.
        classes, palette, num_classes: the classes and, where the manifest has them, their colours.
    """

    def __init__(self, name: str, split: str, root: Path, entry: schema.Dataset) -> None:
        """Lists and pairs the files; none is opened.

        Raises:
            DatasetError: a folder that is missing or empty, or files without their partners.
        """
        self.name, self.split, self.root = name, split, root
        self.classes = list(entry.classes)
        self.palette = None if entry.palette is None else list(entry.palette)
        self.num_classes = len(entry.classes)
        self._policy = entry.labels
        self._table = LabelTable(entry.labels, self.num_classes)
        self._pairs = _pairs(root, entry.splits[split], entry, f"{name} {split}")

    def __len__(self) -> int:
        return len(self._pairs)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture, uint8 RGB [H, W, 3].

        Raises:
            DatasetError: missing, truncated or corrupt.
        """
        return read_image(self._pairs[index][1])

    def label(self, index: int) -> NDArray[Any]:
        """Class indices [H, W], the label policy applied.

        Raises:
            DatasetError: missing, truncated or corrupt, or with values outside the policy.
        """
        path = self._pairs[index][2]
        return self._table.apply(read_label(path), str(path))

    def boundary_file(self, index: int) -> Path | None:
        """The published `dt_offset` file of a label, in dt_offset/ beside the folder of labels; None without one."""
        label = self._pairs[index][2].relative_to(self.root)
        file = self.root.joinpath("dt_offset", *label.parts[1:]).with_suffix(".mat")
        return file if file.is_file() else None

    def image_name(self, index: int) -> str:
        """The image's path below the images' folder, without its ending."""
        return self._pairs[index][0]

    def fingerprint(self) -> str:
        """SHA-256 over classes, label policy, and the names and sizes in bytes of all files.

        Contents are not read: a file that is changed without changing its size is not noticed.
        """
        digest = hashlib.sha256(msgspec.json.encode([self.classes, self._policy]))
        for _, image, label in self._pairs:
            for path in (image, label):
                digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
        return digest.hexdigest()


def _pairs(root: Path, split: schema.Split, entry: schema.Dataset, title: str) -> list[tuple[str, Path, Path]]:
    """(name, image, label) of a split, sorted by name."""
    if split.labels is None:
        raise DatasetError(f"{title} has no labels: the manifest names no folder of labels for this split")
    images = _files(root / split.images, entry.image_suffixes, title)
    labels = _files(root / split.labels, (entry.label_suffix,), title)
    if split.names is not None:
        chosen = _listed(root / split.names, images, title)
        images = {name: images[name] for name in chosen}
        labels = {name: labels[name] for name in chosen if name in labels}
    if not images:
        endings = ", ".join(entry.image_suffixes)
        raise DatasetError(f"{title} is empty: no image ({endings}) in {root / split.images}")
    _check_partners(images.keys() - labels.keys(), "image", root / split.labels, title)
    _check_partners(labels.keys() - images.keys(), "label", root / split.images, title)
    return [(name, images[name], labels[name]) for name in sorted(images)]


def _check_partners(alone: Iterable[str], kind: str, searched: Path, title: str) -> None:
    names = sorted(alone)
    if names:
        other = "label" if kind == "image" else "image"
        raise DatasetError(
            f"{title}: {len(names)} {kind}s have no {other} in {searched}: {_some(names)}; "
            "every image needs the label of its name, and every label its image"
        )


def _files(folder: Path, suffixes: tuple[str, ...], title: str) -> dict[str, Path]:
    """Path of every file below `folder` that ends in one of `suffixes`, by its name without that ending."""
    if not folder.is_dir():
        raise DatasetError(f"{title}: there is no folder {folder}")
    found: dict[str, Path] = {}
    for parent, _, names in os.walk(folder, followlinks=True):
        for file in names:
            suffix = next((end for end in suffixes if file.lower().endswith(end.lower())), None)
            # A leading dot is the file system's own business: macOS adds "._" files beside images.
            if suffix is None or file.startswith("."):
                continue
            path = Path(parent, file)
            name = path.relative_to(folder).as_posix()[: -len(suffix)]
            if name in found:
                raise DatasetError(f"{title}: {path} and {found[name]} are two files of one name; keep one")
            found[name] = path
    return found


def _listed(file: Path, images: dict[str, Path], title: str) -> list[str]:
    """The names in a list file: the first word of each line, with or without folders and ending.

    Raises:
        DatasetError: the list cannot be read or names images that are not there.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{title}: cannot read the list of names {file}: {error}") from error
    words = [line.split()[0] for line in lines if line.strip()]
    by_last = {name.rpartition("/")[2]: name for name in images}
    chosen = [_match(word, images, by_last) for word in words]
    missing = [word for word, name in zip(words, chosen, strict=True) if name is None]
    if missing:
        raise DatasetError(f"{title}: {len(missing)} names of {file} have no image: {_some(missing)}")
    return [name for name in dict.fromkeys(chosen) if name is not None]


def _match(word: str, images: dict[str, Path], by_last: dict[str, str]) -> str | None:
    if word in images:
        return word
    last = word.rpartition("/")[2]
    return by_last.get(last) or by_last.get(last.rpartition(".")[0])


def _some(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
