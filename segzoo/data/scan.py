"""Reads one pair completely and says all that is wrong with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segzoo.data.colours import ColourTable
from segzoo.data.dataset import Dataset
from segzoo.data.files import Files
from segzoo.data.listing import PairOfFiles
from segzoo.data.policy import LabelTable
from segzoo.data.read import decode_colours, decode_image, decode_label
from segzoo.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """What a scan found.

    Attributes:
        name: of the pair.
        faults: (kind, sentence) for each thing that an evaluation would stop at.
        values: pixels of every value that the label file has; of every class index where labels are colours.
        image_digest: of the image file's bytes; None where it could not be read.
    """

    name: str
    faults: list[tuple[str, str]] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    image_digest: bytes | None = None


def scan_files(files: Files, pair: PairOfFiles, table: LabelTable, colours: ColourTable | None) -> PairFacts:
    """The facts of a pair of files. Nothing is raised for a fault of theirs."""
    faults: list[tuple[str, str]] = []
    image_shape, label_shape, digest, values = None, None, None, {}
    try:
        data = files.read(pair.image)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        image_shape = decode_image(data, files.where(pair.image)).shape[:2]
    except DatasetError as error:
        faults.append(("unreadable", str(error)))
    try:
        stored = _stored(files, pair.label, colours)
        values, label_shape = histogram(stored), stored.shape
        if colours is None and not table.knows(values):
            table.apply(stored, files.where(pair.label))
    except DatasetError as error:
        faults.append(("values" if label_shape else "unreadable", str(error)))
    if image_shape and label_shape and image_shape != label_shape:
        faults.append(("size", _sizes(files, pair, image_shape, label_shape)))
    return PairFacts(name=pair.name, faults=faults, values=values, image_digest=digest)


def scan_drawn(dataset: Dataset, index: int) -> PairFacts:
    """The facts of a pair that segzoo draws."""
    image, label = dataset.image(index), dataset.label(index)
    digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    return PairFacts(name=dataset.image_name(index), values=histogram(label), image_digest=digest)


def histogram(values: NDArray[Any]) -> dict[int, int]:
    """Pixels of every value that occurs."""
    if values.dtype == np.uint8 and values.size:
        # OpenCV counts in floats, which are exact up to 2**24 pixels; a label is counted in parts.
        rows = max(1, (1 << 24) // max(1, values.shape[1]))
        counts = np.zeros(256, np.int64)
        for first in range(0, values.shape[0], rows):
            part = np.ascontiguousarray(values[first : first + rows])
            counts += cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    present, numbers = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(present, numbers, strict=True)}


def _stored(files: Files, label: str, colours: ColourTable | None) -> NDArray[Any]:
    data, where = files.read(label), files.where(label)
    return decode_label(data, where) if colours is None else colours.apply(decode_colours(data, where), where)


def _sizes(files: Files, pair: PairOfFiles, image: tuple[int, ...], label: tuple[int, ...]) -> str:
    return (
        f"image and label {pair.name!r} differ in size: {files.where(pair.image)} has {image[0]}x{image[1]} pixels "
        f"(EXIF orientation applied), {files.where(pair.label)} {label[0]}x{label[1]}"
    )
