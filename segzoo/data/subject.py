"""What `segzoo data check` is to look at: a data set by name, or what a folder or archive turns out to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segzoo.data.files import Files
from segzoo.data.open import locate, open_files, open_own
from segzoo.data.own_folder import CLASSES_FILE, SETTINGS_FILE
from segzoo.data.recognise import explain, recognise
from segzoo.data.scenes import SPLITS
from segzoo.errors import DatasetError, UsageError, suggestion
from segzoo.zoo import schema
from segzoo.zoo.manifest import load_manifest

_ORDINARY = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set to check.

    Attributes:
        name: of the manifest, or of the folder.
        entry: its words, with the folders that are in use.
        files: where its files are; None for one that is drawn.
        splits: what of it is to be checked.
        words: how it was recognised, for a person; "" where it was named.
    """

    name: str
    entry: schema.Dataset
    files: Files | None
    splits: list[str]
    words: str = ""


def find_subject(
    target: str, *, dataset: str | None = None, root: Path | None = None, splits: tuple[str, ...] = ()
) -> Subject:
    """The data set that `target` names or holds.

    Args:
        target: a name of the manifest, or a folder or archive.
        dataset: what the folder is, by name; recognised by what is in it where None.
        root: where the data set `target` is, if that is a name.
        splits: those wanted; all that are there where empty.

    Raises:
        UsageError: no such data set, folder or split.
        DatasetError: the data set is not there, or the folder is none that segzoo knows.
    """
    datasets = load_manifest().datasets
    if dataset is not None and dataset not in datasets:
        raise UsageError(
            f"unknown data set {dataset!r}: known are {', '.join(datasets)}{suggestion(dataset, datasets)}"
        )
    words = ""
    if target in datasets:
        name, place = target, root
    elif not Path(target).exists():
        known = ", ".join(datasets)
        raise UsageError(f"{target!r} is no folder, no archive and none of {known}{suggestion(target, datasets)}")
    elif dataset is None and _is_own(open_files(Path(target))):
        own, files, entry = open_own(target, splits[0] if splits else "val")
        return Subject(name=own, entry=entry, files=files, splits=_splits(own, entry, files, splits))
    else:
        place = Path(target)
        name, words = (dataset, "") if dataset else _recognised(place)
    entry = datasets[name]
    if entry.layout == "scenes":
        return Subject(name=name, entry=entry, files=None, splits=_known(name, list(SPLITS), splits or ("val",)))
    files, used = locate(name, entry, place, tuple(_known(name, list(entry.splits), splits)))
    return Subject(name=name, entry=used, files=files, splits=_splits(name, used, files, splits), words=words)


def _is_own(files: Files) -> bool:
    tops = ["", *files.folders("")] if not files.has_folder("images") else [""]
    return any(files.inside(top).has_file(file) for top in tops for file in (CLASSES_FILE, SETTINGS_FILE))


def _recognised(place: Path) -> tuple[str, str]:
    """(name, how it was recognised) of what a folder or archive holds."""
    datasets, files = load_manifest().datasets, open_files(place)
    names = recognise(files, datasets)
    if names:
        also = f" (it may be {' or '.join(names[1:])} too; --dataset says which)" if names[1:] else ""
        return names[0], f"{place} looks like {names[0]}{also}"
    for name, entry in datasets.items():
        if entry.layout == "folders" and (hint := explain(files, name, entry, {})):
            # A folder too high or too low says nothing of its own about which data set it is.
            hint = hint if "looks like" in hint else f"it seems to be {name}, but {hint}"
            raise DatasetError(f"{place} cannot be checked as it is: {hint}")
    raise DatasetError(
        f"{place} has the folders of no data set that segzoo knows; say which it is by --dataset, or, for a folder of "
        f"your own, put images/, labels/ and {CLASSES_FILE} into it"
    )


def _known(name: str, known: list[str], splits: tuple[str, ...]) -> list[str]:
    if wrong := [split for split in splits if split not in known]:
        raise UsageError(f"{name} has the splits {', '.join(known)}, not {wrong[0]!r}{suggestion(wrong[0], known)}")
    return list(splits)


def _splits(name: str, entry: schema.Dataset, files: Files, splits: tuple[str, ...]) -> list[str]:
    """Those wanted; else those that are there: images, their list if they have one, and labels but in ordinary ones."""
    if splits:
        return _known(name, list(entry.splits), splits)
    there = [split for split, folders in entry.splits.items() if files.has_folder(folders.images)]
    listed = [split for split in there if (names := entry.splits[split].names) is None or files.has_file(names)]
    labelled = [split for split in listed if (labels := entry.splits[split].labels) and files.has_folder(labels)]
    return [split for split in listed if split in _ORDINARY or split in labelled] or there
