"""Where the files of a data set lie, behind one interface: a folder, or an archive (archive.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from segzoo.errors import DatasetError


class Identity(NamedTuple):
    """What a file looked like when the data set was opened: bytes, and nanoseconds of its last change."""

    size: int
    mtime_ns: int


class Files(Protocol):
    """The files of one data set. Names are relative to its root, with "/" between folders.

    Attributes:
        place: the root as messages call it.
    """

    place: str

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of this name; "" is the root."""
        ...

    def has_file(self, name: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def below(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder, relative to the folder."""
        ...

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, sorted."""
        ...

    def identity(self, name: str) -> Identity:
        """Size and time of a file."""
        ...

    def read(self, name: str, since: Identity | None = None) -> bytes:
        """All bytes of a file; `since`: what it must still look like."""
        ...

    def where(self, name: str) -> str:
        """A file's place as messages call it."""
        ...

    def inside(self, folder: str) -> Files:
        """The same files with a folder of theirs as the root."""
        ...


class FolderFiles:
    """Files below a folder of the file system. Symbolic links are followed.

    Attributes:
        root: the folder.
        place: its path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of this name; "" is the root."""
        return (self.root / name).is_dir()

    def has_file(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.root / name).is_file()

    def below(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder, relative to the folder."""
        top = self.root / folder
        seen: set[tuple[int, int]] = set()
        for parent, folders, names in os.walk(top, followlinks=True):
            status = Path(parent).stat()
            if (status.st_dev, status.st_ino) in seen:
                # A link that leads back up: the same files under endless names.
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            prefix = Path(parent).relative_to(top).as_posix()
            yield from names if prefix == "." else (f"{prefix}/{name}" for name in names)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, sorted."""
        top = self.root / folder
        return sorted(entry.name for entry in top.iterdir() if entry.is_dir()) if top.is_dir() else []

    def identity(self, name: str) -> Identity:
        """Size and time of a file.

        Raises:
            DatasetError: there is no such file, or it cannot be looked at.
        """
        try:
            status = (self.root / name).stat()
        except OSError as error:
            raise _unreadable(self.where(name), error) from error
        return Identity(status.st_size, status.st_mtime_ns)

    def read(self, name: str, since: Identity | None = None) -> bytes:
        """All bytes of a file.

        Raises:
            DatasetError: it cannot be read, or has another size or time than `since`.
        """
        try:
            with (self.root / name).open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
        except OSError as error:
            raise _unreadable(self.where(name), error) from error
        check_unchanged(self.where(name), Identity(status.st_size, status.st_mtime_ns), since)
        return data

    def where(self, name: str) -> str:
        """The file's path."""
        return str(self.root / name)

    def inside(self, folder: str) -> FolderFiles:
        """The files of a folder below this one."""
        return FolderFiles(self.root / folder) if folder else self


def check_unchanged(where: str, now: Identity, since: Identity | None) -> None:
    """Stops at a file that is not what it was when the data set was opened.

    Raises:
        DatasetError: size or time differ.
    """
    if since is None or now == since:
        return
    how = f"{since.size} bytes then, {now.size} now" if now.size != since.size else "it was written again"
    raise DatasetError(
        f"{where} has changed since the data set was opened ({how}); results of both would be mixed: start again "
        "when nothing writes to the data set"
    )


def _unreadable(where: str, error: OSError) -> DatasetError:
    if isinstance(error, FileNotFoundError):
        return DatasetError(f"there is no file {where}")
    return DatasetError(f"cannot read {where}: {error.strerror}")
