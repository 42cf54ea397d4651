"""PASCAL-Context: VOC 2010's pictures with labels of 59 classes and background, made of the published 459 categories.

The published files (trainval/NAME.mat, variable LabelMap) number the 459 categories 1..459 in alphabetical order.
The 59 frequent ones of the paper (Mottaghi et al., CVPR 2014), in that order, become 1..59; all others become 0, the
background. These are also the numbers of the Detail API's conversion that mmsegmentation uses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segzoo.data.archive import ArchiveFiles
from segzoo.data.mat import decode_mat
from segzoo.data.write import write_indices
from segzoo.errors import DatasetError
from segzoo.preparation.unpack import Progress, write_file

CATEGORIES = 459
FREQUENT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
_PICTURES, _LABELS = "VOCtrainval_03-May-2010.tar", "trainval.tar.gz"


def convert(archives: dict[str, ArchiveFiles], target: Path, splits: tuple[str, ...], progress: Progress) -> None:
    """Writes SPLIT/image/NAME.jpg and SPLIT/label/NAME.png of VOC 2010's lists; what is there is left alone.

    Raises:
        DatasetError: pictures, lists or labels that are missing or damaged.
    """
    pictures, labels = _inside(archives[_PICTURES], "JPEGImages"), _inside(archives[_LABELS], "trainval")
    for split in splits:
        names = pictures.read(f"ImageSets/Main/{split}.txt").decode("utf-8").split()
        for name in progress(names, len(names), f"{split} of PASCAL-Context"):
            label = target / split / "label" / f"{name}.png"
            image = target / split / "image" / f"{name}.jpg"
            if not image.is_file():
                write_file(image, pictures.read(f"JPEGImages/{name}.jpg"))
            if not label.is_file():
                write_indices(label, _label(labels, f"trainval/{name}.mat"))


def to_59(categories: NDArray[np.integer], where: str) -> NDArray[np.uint8]:
    """0 (background) and 1..59 of the 459 categories' numbers [H, W].

    Raises:
        DatasetError: numbers beyond 459.
    """
    if categories.size and (int(categories.max()) > CATEGORIES or int(categories.min()) < 0):
        raise DatasetError(
            f"{where} has the category {int(categories.max())}; PASCAL-Context has the numbers 1 to {CATEGORIES}"
        )
    table = np.zeros(CATEGORIES + 1, np.uint8)
    table[list(FREQUENT)] = np.arange(1, len(FREQUENT) + 1)
    return table[categories]


def _label(files: ArchiveFiles, file: str) -> NDArray[np.uint8]:
    content = decode_mat(files.read(file), files.where(file))
    if "LabelMap" not in content:
        raise DatasetError(f"{files.where(file)} has no LabelMap; is it PASCAL-Context's trainval.tar.gz?")
    return to_59(np.asarray(content["LabelMap"]).astype(np.int64), files.where(file))


def _inside(files: ArchiveFiles, folder: str) -> ArchiveFiles:
    roots = files.roots_with(folder)
    if not roots:
        raise DatasetError(f"{files.path} has no folder {folder}; is it the right archive?")
    return files.inside(roots[0])
