"""Finds a data set by its name in the manifest, by its folder or by its archive."""

from __future__ import annotations

from pathlib import Path

from segzoo import paths
from segzoo.data.archive import ArchiveFiles, is_archive, open_archive
from segzoo.data.dataset import Dataset
from segzoo.data.files import Files, FolderFiles
from segzoo.data.folders import FoldersDataset
from segzoo.data.joined import published_archives
from segzoo.data.own_folder import own_entry
from segzoo.data.recognise import explain, find_layout
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
        root: the folder or archive of a data set of the manifest, the folder above it, or a folder with the
            archives it is published as; below SEGZOO_DATA where None.
        split: "train", "val", ...

    Raises:
        UsageError: no such data set or split.
        DatasetError: files that are missing, or images and labels that are no pairs.
    """
    datasets = load_manifest().datasets
    if str(name_or_path) not in datasets:
        return _own(name_or_path, split)
    name = str(name_or_path)
    entry = datasets[name]
    known = list(SPLITS) if entry.layout == "scenes" else list(entry.splits)
    if split not in known:
        raise UsageError(f"{name} has the splits {', '.join(known)}, not {split!r}{suggestion(split, known)}")
    if entry.layout == "scenes":
        return ScenesDataset(split)
    files, used = locate(name, entry, root, (split,))
    return FoldersDataset(name, split, files, used)


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


def locate(
    name: str, entry: schema.Dataset, root: str | Path | None, splits: tuple[str, ...] = ()
) -> tuple[Files, schema.Dataset]:
    """(files with the data set's folder as their root, entry with the folders that are in use there).

    Args:
        name: of the data set.
        entry: its words.
        root: its folder or archive, the folder above, or one with the archives it is published as; below
            SEGZOO_DATA where None.
        splits: whose images must be there; any where empty.

    Raises:
        DatasetError: it is not there; the message says how to get it, or what is there instead.
    """
    below = entry.root or name
    place = paths.data_folder() / below if root is None else Path(root)
    if place.exists():
        files = open_files(place)
        found = find_layout(files, name, entry, splits)
        if found is not None:
            return found
        joined = published_archives(place, entry, splits) if place.is_dir() else None
        if joined is not None and (found := find_layout(joined, name, entry, splits)) is not None:
            return found
        if hint := explain(files, name, entry, load_manifest().datasets):
            raise DatasetError(f"the data set {name} is not in {place}: {hint}")
    images = " or ".join(entry.splits[split].images for split in splits or entry.splits)
    fetch = f"get it from {entry.source}" if entry.source else "get it from its authors"
    if entry.archives:
        fetch = f"`segzoo data prepare {name}` brings it, or {fetch}"
    target = place if root is None else place / below
    how = "" if root is not None else " (or say where it is by --data-root or SEGZOO_DATA)"
    raise DatasetError(
        f"the data set {name} is not here: there is no folder {images} in {place}; {fetch}, into {target}{how}"
    )


def open_own(path: str | Path, split: str) -> tuple[str, Files, schema.Dataset]:
    """(name, files, entry) of a folder or archive of one's own.

    Raises:
        UsageError: there is none.
        DatasetError: it does not say what it is.
    """
    place = Path(path)
    if not place.exists():
        known = list(load_manifest().datasets)
        near = suggestion(str(path), known)
        raise UsageError(
            f"unknown data set {str(path)!r}: neither one of {', '.join(known)} nor a folder or archive{near}"
        )
    files = open_files(place)
    if isinstance(files, ArchiveFiles) and not files.has_folder("images"):
        files = next((files.inside(found) for found in files.roots_with("images")), files)
    name = place.resolve().name
    return name.partition(".")[0] if place.is_file() else name, files, own_entry(files, split)


def _own(path: str | Path, split: str) -> Dataset:
    name, files, entry = open_own(path, split)
    if split not in entry.splits:
        raise UsageError(
            f"{files.place} has the splits {', '.join(entry.splits)}, not {split!r}{suggestion(split, entry.splits)}"
        )
    return FoldersDataset(name, split, files, entry)
