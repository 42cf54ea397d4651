"""PASCAL VOC 2012 with the labels of the Semantic Boundaries Dataset: SegmentationClassAug and its list trainaug.txt.

Pictures that VOC itself has labelled for training keep those labels, as in mmsegmentation's set; none of VOC's
validation pictures is in the list.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.data.archive import ArchiveFiles
from segzoo.data.mat import decode_mat
from segzoo.data.read import read_label
from segzoo.data.write import write_indices
from segzoo.errors import DatasetError
from segzoo.preparation.unpack import Progress, write_file

_LISTS = Path("ImageSets/Segmentation")
_LABELS = "SegmentationClassAug"


def convert(archives: dict[str, ArchiveFiles], target: Path, splits: tuple[str, ...], progress: Progress) -> None:
    """Makes the split `trainaug` in VOC's folder, where it is wanted.

    Raises:
        DatasetError: lists or labels that are missing or damaged.
    """
    if "trainaug" not in splits:
        return
    files = archives["benchmark.tgz"]
    roots = files.roots_with("dataset/cls")
    if not roots:
        raise DatasetError(f"{files.path} has no folder dataset/cls; is it the Semantic Boundaries Dataset?")
    boundaries = files.inside(f"{roots[0]}/dataset" if roots[0] else "dataset")
    own, held_out = (_names((target / _LISTS / f"{split}.txt").read_bytes()) for split in ("train", "val"))
    added = [name for split in ("train", "val") for name in _names(boundaries.read(f"{split}.txt"))]
    names = sorted({*own, *added} - set(held_out))
    kept = set(own)
    for name in progress(names, len(names), _LABELS):
        place = target / _LABELS / f"{name}.png"
        if place.is_file():
            continue
        if name in kept:
            write_indices(place, read_label(target / "SegmentationClass" / f"{name}.png"))
        else:
            write_indices(place, _label(boundaries, f"cls/{name}.mat"))
    write_file(target / _LISTS / "trainaug.txt", "".join(f"{name}\n" for name in names).encode())


def _names(text: bytes) -> list[str]:
    return text.decode("utf-8").split()


def _label(files: ArchiveFiles, file: str) -> np.ndarray:
    """Class indices [H, W] of one label of the Semantic Boundaries Dataset."""
    content = decode_mat(files.read(file), files.where(file))
    try:
        return np.asarray(content["GTcls"]["Segmentation"]).astype(np.uint8)
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{files.where(file)} has no label of classes ({error!r})") from error
