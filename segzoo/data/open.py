"""Finds a data set by its name in the manifest or by its folder."""

from __future__ import annotations

from pathlib import Path

from segzoo import paths
from segzoo.data.dataset import Dataset
from segzoo.data.folders import FoldersDataset
from segzoo.data.scenes import SPLITS, ScenesDataset
from segzoo.errors import DatasetError, UsageError, suggestion
from segzoo.zoo import schema
from segzoo.zoo.manifest import load_manifest

_CLASSES_FILE = "classes.txt"


def open_dataset(name_or_path: str | Path, *, root: str | Path | None = None, split: str = "val") -> Dataset:
    """A split of a data set.

    Args:
        name_or_path: a name of the manifest, or a folder with images/, labels/ and classes.txt (a class
            name a line; label value i is class i, 255 is ignored). Such a folder may have its splits
            as images/val, labels/val and so on.
        root: the folder of a data set of the manifest, or the one above it; below SEGZOO_DATA where None.
        split: "train", "val", ...

    Raises:
        UsageError: no such data set or split.
        DatasetError: files that are missing, or images and labels that are no pairs.
    """
    datasets = load_manifest().datasets
    if str(name_or_path) not in datasets:
        return _plain_folder(name_or_path, split, list(datasets))
    name = str(name_or_path)
    entry = datasets[name]
    known = list(SPLITS) if entry.layout == "scenes" else list(entry.splits)
    if split not in known:
        raise UsageError(f"{name} has the splits {', '.join(known)}, not {split!r}{suggestion(split, known)}")
    if entry.layout == "scenes":
        return ScenesDataset(split)
    return FoldersDataset(name, split, _find(name, entry, split, root), entry)


def _find(name: str, entry: schema.Dataset, split: str, root: str | Path | None) -> Path:
    """The first candidate that has the split's images."""
    below = entry.root or name
    candidates = [Path(root), Path(root, below)] if root is not None else [paths.data_folder() / below]
    images = entry.splits[split].images
    for candidate in candidates:
        if (candidate / images).is_dir():
            return candidate
    fetch = f"get it from {entry.source}" if entry.source else "get it from its authors"
    place = candidates[-1]
    how = "" if root is not None else " (or say where it is by --data-root or SEGZOO_DATA)"
    raise DatasetError(
        f"the data set {name} is not here: there is no folder {place / images}; {fetch}, into {place}{how}"
    )


def _plain_folder(path: str | Path, split: str, known: list[str]) -> Dataset:
    folder = Path(path)
    if not folder.is_dir():
        near = suggestion(str(path), known)
        raise UsageError(f"unknown data set {str(path)!r}: neither one of {', '.join(known)} nor a folder{near}")
    classes = _classes(folder / _CLASSES_FILE)
    below = f"/{split}" if (folder / "images" / split).is_dir() else ""
    entry = schema.Dataset(
        classes=classes,
        splits={split: schema.Split(images=f"images{below}", labels=f"labels{below}")},
        image_suffixes=(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"),
    )
    return FoldersDataset(folder.resolve().name, split, folder, entry)


def _classes(file: Path) -> list[str]:
    """The lines of classes.txt that are not empty."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"cannot read {file} ({reason}); a folder that is used as a data set needs images/, labels/ and "
            f"{_CLASSES_FILE} with a class name a line"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DatasetError(f"{file} is empty; write a class name a line, the first for label value 0")
    return names
