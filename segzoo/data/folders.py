"""Data sets that are folders of images and folders of labels, paired by name, on disk or in an archive."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from segzoo.data.boundary import Boundary, decode_boundary
from segzoo.data.colours import ColourTable
from segzoo.data.files import Files, FolderFiles, Identity
from segzoo.data.listing import PairOfFiles, list_split
from segzoo.data.policy import LabelTable
from segzoo.data.read import decode_colours, decode_image, decode_label
from segzoo.errors import DatasetError
from segzoo.zoo import schema


class FoldersDataset:
    """Images and label files of one split, in the order of their names.

    Every file must stay what it was when the data set was opened; reading one that has changed is an error.

    Attributes:
        name, split: as the manifest calls them.
        files: where the files are.
        classes, palette, num_classes: the classes and, where the manifest has them, their colours.
    """

    def __init__(self, name: str, split: str, root: Path | Files, entry: schema.Dataset) -> None:
        """Lists and pairs the files; none is opened. `root`: the data set's folder.

        Raises:
            DatasetError: a folder that is missing or empty, or files without their partners.
        """
        self.name, self.split = name, split
        self.files: Files = FolderFiles(root) if isinstance(root, Path) else root
        self.classes = list(entry.classes)
        self.palette = None if entry.palette is None else list(entry.palette)
        self.num_classes = len(entry.classes)
        self._policy = entry.labels
        self._table = LabelTable(entry.labels, self.num_classes)
        self._colours = colour_table(entry)
        listing = list_split(self.files, entry.splits[split], entry, f"{name} {split}")
        # With a published number of pairs, a part of the split is recognised as one wherever it is used.
        for problem in listing.problems(absent_allowed=entry.splits[split].count is not None):
            raise DatasetError(problem)
        self._pairs: list[PairOfFiles] = listing.pairs
        self._known = [(self.files.identity(pair.image), self.files.identity(pair.label)) for pair in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture, uint8 RGB [H, W, 3].

        Raises:
            DatasetError: missing, truncated, corrupt or changed since the data set was opened.
        """
        file = self._pairs[index].image
        return decode_image(self.files.read(file, self._known[index][0]), self.files.where(file))

    def label(self, index: int) -> NDArray[Any]:
        """Class indices [H, W], the label policy applied.

        Raises:
            DatasetError: missing, truncated, corrupt or changed, or with values outside the policy.
        """
        file = self._pairs[index].label
        data, where = self.files.read(file, self._known[index][1]), self.files.where(file)
        return apply_policy(data, where, self._table, self._colours)

    def stored_boundary(self, index: int) -> Boundary | None:
        """The published `dt_offset` maps of a label, in dt_offset/ beside the folder of labels; None without them.

        Raises:
            DatasetError: the file is there and cannot be read.
        """
        below = self._pairs[index].label.partition("/")[2]
        file = f"dt_offset/{below.rpartition('.')[0]}.mat"
        if not self.files.has_file(file):
            return None
        return decode_boundary(self.files.read(file), self.files.where(file))

    def image_name(self, index: int) -> str:
        """The image's path below the images' folder, without its ending."""
        return self._pairs[index].name

    def fingerprint(self) -> str:
        """SHA-256 over classes, label policy, and the names and sizes in bytes of all files.

        It is the same for a folder and for an archive of it. Contents are not read: a file that was changed
        without changing its size before the data set was opened is not noticed.
        """
        digest = self._meaning()
        for pair, known in zip(self._pairs, self._known, strict=True):
            digest.update(_line(pair.image, known[0]) + _line(pair.label, known[1]))
        return digest.hexdigest()

    def pair_mark(self, index: int) -> str:
        """16 hex digits that change when the files of one pair or their meaning do, as far as `fingerprint` would."""
        pair, known, digest = self._pairs[index], self._known[index], self._meaning()
        digest.update(_line(pair.image, known[0]) + _line(pair.label, known[1]))
        return digest.hexdigest()[:16]

    def _meaning(self) -> hashlib._Hash:
        digest = hashlib.sha256(msgspec.json.encode([self.classes, self._policy]))
        if self._colours is not None:
            digest.update(msgspec.json.encode(self._colours.colours))
        return digest


def colour_table(entry: schema.Dataset) -> ColourTable | None:
    """The table for labels that are colours, None for labels that are indices."""
    if entry.label_coding == "indices":
        return None
    return ColourTable(entry.classes, entry.palette, entry.ignore_colours)


def apply_policy(data: bytes, where: str, table: LabelTable, colours: ColourTable | None) -> NDArray[Any]:
    """Class indices [H, W] of a label file's bytes.

    Raises:
        DatasetError: it cannot be decoded, or has values or colours that are not known.
    """
    if colours is None:
        return table.apply(decode_label(data, where), where)
    return colours.apply(decode_colours(data, where), where)


def _line(file: str, known: Identity) -> bytes:
    return f"{file} {known.size}\n".encode()
