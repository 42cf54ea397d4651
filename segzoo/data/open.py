"""Finds a data set by its name in the manifest, by its folder or by its archive."""

from __future__ import annotations

from pathlib import Path

from segzoo import paths
from segzoo.data.archive import is_archive, open_archive
from segzoo.data.dataset import Dataset
from segzoo.data.files import Files, FolderFiles
from segzoo.data.folders import FoldersDataset
from segzoo.data.own_folder import own_entry
from segzoo.data.scenes import SPLITS, ScenesDataset
from segzoo.errors import DatasetError, UsageError, suggestion
from segzoo.zoo import schema
from segzoo.zoo.manifest import load_manifest


def open_dataset(name_or_path: str | Path, *, root: str | Path | None = None, split: str = "val") -> Dataset:
    """A split of a data set.

    Args:
        name_or_path: a name of the manifest; or a folder or archive (.zip, .tar, .tar.gz) of one's own with
            images/, labels/ and classes.txt, see docs/datasets.md. Such a folder may have its splits as
            images/val, labels/val and so on.
        root: the folder or archive of a data set of the manifest, or the folder above it; below SEGZOO_DATA
            where None.
        split: "train", "val", ...

    Raises:
        UsageError: no such data set or split.
        DatasetError: files that are missing, or images and labels that are no pairs.
    """
    datasets = load_manifest().datasets
    if str(name_or_path) not in datasets:
        return _own(name_or_path, split, list(datasets))
    name = str(name_or_path)
    entry = datasets[name]
    known = list(SPLITS) if entry.layout == "scenes" else list(entry.splits)
    if split not in known:
        raise UsageError(f"{name} has the splits {', '.join(known)}, not {split!r}{suggestion(split, known)}")
    if entry.layout == "scenes":
        return ScenesDataset(split)
    return FoldersDataset(name, split, find_files(name, entry, entry.splits[split].images, root), entry)


def open_files(path: Path) -> Files:
    """The files of a folder or an archive.

    Raises:
        DatasetError: there is neither, or the archive cannot be read.
    """
    if path.is_dir():
        return FolderFiles(path)
    if is_archive(path):
        return open_archive(path)
    raise DatasetError(f"there is no folder or archive {path}")


def roots_with(files: Files, folder: str, below: str) -> list[str]:
    """Where the files have `folder`: themselves, in `below`, or (in an archive) in any other folder."""
    inside = [root for root in ("", below) if files.has_folder(f"{root}/{folder}" if root else folder)]
    return [*inside, *(files.roots_with(folder) if hasattr(files, "roots_with") and not inside else [])]


def find_files(name: str, entry: schema.Dataset, images: str, root: str | Path | None) -> Files:
    """The files of a data set, with its folder as their root: the first place that has the folder `images`.

    Raises:
        DatasetError: it is not there; the message says how to get it, or what is there instead.
    """
    below = entry.root or name
    place = paths.data_folder() / below if root is None else Path(root)
    if place.exists():
        files = open_files(place)
        for found in roots_with(files, images, below):
            return files.inside(found)
        if root is not None:
            raise DatasetError(f"the data set {name} is not in {place}: it has no folder {images} nor {below}/{images}")
    how = "" if root is not None else " (or say where it is by --data-root or SEGZOO_DATA)"
    fetch = f"get it from {entry.source}" if entry.source else "get it from its authors"
    if entry.archives:
        fetch = f"`segzoo data prepare {name}` brings it, or {fetch}"
    raise DatasetError(
        f"the data set {name} is not here: there is no folder {place / images}; {fetch}, into {place}{how}"
    )


def _own(path: str | Path, split: str, known: list[str]) -> Dataset:
    """A folder or archive of one's own."""
    place = Path(path)
    if not place.exists():
        near = suggestion(str(path), known)
        raise UsageError(
            f"unknown data set {str(path)!r}: neither one of {', '.join(known)} nor a folder or archive{near}"
        )
    files = open_files(place)
    if is_archive(place) and not files.has_folder("images"):
        files = next((files.inside(found) for found in roots_with(files, "images", "")), files)
    entry = own_entry(files, split)
    if split not in entry.splits:
        raise UsageError(
            f"{files.place} has the splits {', '.join(entry.splits)}, not {split!r}{suggestion(split, entry.splits)}"
        )
    return FoldersDataset(place.resolve().name.partition(".")[0], split, files, entry)
