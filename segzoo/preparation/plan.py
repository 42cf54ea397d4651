"""What a data set needs, what of it is here, and what is to be downloaded or fetched by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segzoo import paths
from segzoo.data.files import FolderFiles
from segzoo.data.listing import list_split
from segzoo.errors import DatasetError, UsageError, suggestion
from segzoo.preparation.state import read_state
from segzoo.zoo import schema
from segzoo.zoo.manifest import load_manifest

_ORDINARY = ("train", "val", "test")
Way = Literal["here", "download", "by hand"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One archive of a plan.

    Attributes:
        archive: the manifest's words.
        path: where it is or belongs.
        way: how it comes.
    """

    archive: schema.Archive
    path: Path
    way: Way


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a data set comes to be in a folder.

    Attributes:
        target: the data set's own folder.
        splits: those to be prepared.
        parts: the archives they need.
        pairs: numbers of pairs that are there already, by split; complete where `done`.
        done: nothing is left to do.
    """

    name: str
    entry: schema.Dataset
    target: Path
    splits: tuple[str, ...]
    parts: list[Part] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    done: bool = False

    def by(self, way: Way) -> list[Part]:
        """The archives that come in this way."""
        return [] if self.done else [part for part in self.parts if part.way == way]

    def words(self) -> list[str]:
        """What a person should know before it begins: licence, what is downloaded, what to fetch by hand."""
        if self.done:
            return [f"{self.name} is prepared in {self.target}; there is nothing to do"]
        lines = [f"{self.name}: {self.entry.licence or 'no licence is known'} ({self.entry.source or 'no source'})"]
        lines += [f"  download {part.archive.url[0]}{_size(part.archive)}" for part in self.by("download")]
        for part in self.by("by hand"):
            lines.append(f"  fetch by hand: {part.archive.page or self.entry.source} gives it after registration")
            lines.append(f"    put it at {part.path}{_size(part.archive)}")
        lines += [f"  found {part.path}" for part in self.by("here")]
        return [*lines, f"  then unpack to {self.target}"]

    def rows(self) -> list[dict[str, Any]]:
        """A row of the record for each archive."""
        return [
            {"archive": part.archive.name, "how": "done" if self.done else part.way, "path": str(part.path)}
            for part in self.parts
        ]


def make_plan(
    name: str, *, root: Path | None = None, splits: tuple[str, ...] = (), archives: Path | None = None
) -> Plan:
    """The plan for a data set of the manifest. Nothing is read but folders and the state of an earlier run.

    Args:
        name: of the data set.
        root: the folder that holds data sets; SEGZOO_DATA where None.
        splits: those wanted; train, val and test where empty.
        archives: where archives are kept; root/downloads where None.

    Raises:
        UsageError: no such data set or split, or one that is drawn.
        DatasetError: the manifest does not say where it is to be had.
    """
    datasets = load_manifest().datasets
    entry = datasets.get(name)
    if entry is None:
        raise UsageError(f"unknown data set {name!r}: known are {', '.join(datasets)}{suggestion(name, datasets)}")
    if entry.layout == "scenes":
        raise UsageError(f"{name} is drawn by segzoo itself; there is nothing to prepare")
    if not entry.archives:
        raise DatasetError(f"the manifest does not say of which archives {name} is made; its source: {entry.source}")
    if wrong := [split for split in splits if split not in entry.splits]:
        known = list(entry.splits)
        raise UsageError(f"{name} has the splits {', '.join(known)}, not {wrong[0]!r}{suggestion(wrong[0], known)}")
    above = root or paths.data_folder()
    target = above / (entry.root or name)
    chosen = splits or tuple(split for split in entry.splits if split in _ORDINARY)
    folder = archives or above / "downloads"
    needed = [item for item in entry.archives if not item.splits or set(item.splits) & set(chosen)]
    pairs = count_pairs(entry, target, chosen)
    return Plan(
        name=name,
        entry=entry,
        target=target,
        splits=chosen,
        parts=[_part(item, folder) for item in needed],
        pairs=pairs,
        done=_complete(name, entry, target, chosen, pairs),
    )


def count_pairs(entry: schema.Dataset, target: Path, splits: tuple[str, ...]) -> dict[str, int]:
    """Numbers of pairs in a data set's folder, of the splits that are there without a fault."""
    found = {}
    for split in splits:
        try:
            listing = list_split(FolderFiles(target), entry.splits[split], entry, split)
        except DatasetError:
            continue
        if not listing.problems():
            found[split] = len(listing.pairs)
    return found


def _complete(name: str, entry: schema.Dataset, target: Path, splits: tuple[str, ...], pairs: dict[str, int]) -> bool:
    """As an earlier run left it, or with the published number of pairs in every split."""
    state = read_state(target)
    if state is not None and state.dataset == name and all(state.pairs.get(split) for split in splits):
        return all(pairs.get(split) == state.pairs[split] for split in splits)
    return all(
        split in pairs and pairs[split] in (entry.splits[split].count, *entry.splits[split].other_counts)
        for split in splits
    )


def _part(archive: schema.Archive, folder: Path) -> Part:
    path = folder / archive.name
    way: Way = "here" if path.is_file() else "download" if archive.url else "by hand"
    return Part(archive=archive, path=path, way=way)


def _size(archive: schema.Archive) -> str:
    return f" ({archive.bytes / 1e9:.2f} GB)" if archive.bytes else ""
