"""A data set that is published as several archives, read from them without unpacking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from segzoo.data.archive import ArchiveFiles, open_archive
from segzoo.data.files import Files, Identity
from segzoo.errors import DatasetError
from segzoo.zoo import schema


class JoinedFiles:
    """Folders of several archives as the folders of one data set.

    Attributes:
        place: the folder of the archives.
    """

    def __init__(self, place: str, members: dict[str, tuple[ArchiveFiles, str]]) -> None:
        """`members`: name in the data set -> archive and name in it."""
        self.place, self._members = place, members
        self._folders = {""}
        for name in members:
            while (name := name.rpartition("/")[0]) and name not in self._folders:
                self._folders.add(name)

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of this name; "" is the root."""
        return name in self._folders

    def has_file(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._members

    def below(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder, relative to the folder."""
        start = f"{folder}/" if folder else ""
        return (name[len(start) :] for name in self._members if name.startswith(start))

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, sorted."""
        start = f"{folder}/" if folder else ""
        rest = (name[len(start) :] for name in self._folders if name and name.startswith(start))
        return sorted(name for name in rest if name and "/" not in name)

    def identity(self, name: str) -> Identity:
        """The file's size unpacked, and the time of its archive.

        Raises:
            DatasetError: there is no such file.
        """
        files, inner = self._member(name)
        return files.identity(inner)

    def read(self, name: str, since: Identity | None = None) -> bytes:
        """All bytes of a file, unpacked.

        Raises:
            DatasetError: there is no such file, it is damaged, or its archive has changed since it was opened.
        """
        files, inner = self._member(name)
        return files.read(inner, since)

    def where(self, name: str) -> str:
        """Path of the archive and name in it; of a folder the name below the archives' folder."""
        if name not in self._members:
            return f"{self.place}/{name}"
        files, inner = self._members[name]
        return files.where(inner)

    def inside(self, folder: str) -> Files:
        """The files of a folder."""
        start = f"{folder}/" if folder else ""
        members = {name[len(start) :]: at for name, at in self._members.items() if name.startswith(start)}
        return JoinedFiles(f"{self.place}/{folder}", members) if folder else self

    def _member(self, name: str) -> tuple[ArchiveFiles, str]:
        if name not in self._members:
            raise DatasetError(f"there is no file {self.where(name)}")
        return self._members[name]


def published_archives(place: Path, entry: schema.Dataset, splits: tuple[str, ...]) -> JoinedFiles | None:
    """The archives in a folder as the data set they are published for; None where one that is needed is missing.

    Args:
        place: a folder with the archives under their published names.
        entry: the data set's words; one that is converted cannot be read from its archives.
        splits: those that are wanted; all where empty.

    Raises:
        DatasetError: an archive that is damaged.
    """
    needed = [item for item in entry.archives if not (splits and item.splits) or set(splits) & set(item.splits)]
    usable = [item for item in needed if item.take]
    if not usable or any(not (place / item.name).is_file() for item in usable):
        return None
    members: dict[str, tuple[ArchiveFiles, str]] = {}
    for item in usable:
        files = open_archive(place / item.name)
        for source, target in item.take.items():
            start = "" if target == "." else f"{target}/"
            members |= {f"{start}{name}": (files, f"{source}/{name}") for name in files.below(source)}
    return JoinedFiles(str(place), members)
