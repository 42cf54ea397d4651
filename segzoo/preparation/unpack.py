"""Unpacks folders of an archive, file by file, so that an interrupted unpacking goes on where it stopped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from segzoo.data.archive import ArchiveFiles
from segzoo.errors import DatasetError, IntegrityError

Progress = Callable[[Iterable[str], int, str], Iterable[str]]
"""Wraps names that are worked through, given with their number and a word for what they are."""


def unpack(files: ArchiveFiles, take: dict[str, str], target: Path, progress: Progress) -> int:
    """Unpacks `take` (folder in the archive -> folder below `target`) and returns the number of files written.

    A file that is there with the size it should have is left alone: every one appears whole or not at all. Links
    and special files are never made.

    Raises:
        IntegrityError: a name that leads out of the folder, or a damaged archive.
        DatasetError: a folder that the archive does not have.
    """
    written = 0
    for source, place in take.items():
        if not files.has_folder(source):
            top = ", ".join(files.folders("")) or "no folder"
            raise DatasetError(f"{files.path} has no folder {source}, but {top}; is it the right archive?")
        names = sorted(files.below(source))
        for name in progress(names, len(names), files.path.name):
            path = _inside(target / place, name, files)
            full = f"{source}/{name}"
            if not (path.is_file() and path.stat().st_size == files.identity(full).size):
                write_file(path, files.read(full))
                written += 1
    return written


def missing_bytes(files: ArchiveFiles, take: dict[str, str], target: Path) -> int:
    """How much `unpack` has still to write."""
    missing = 0
    for source, place in take.items():
        for name in files.below(source) if files.has_folder(source) else ():
            size, path = files.identity(f"{source}/{name}").size, _inside(target / place, name, files)
            missing += 0 if path.is_file() and path.stat().st_size == size else size
    return missing


def write_file(path: Path, data: bytes) -> None:
    """Writes a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".segzoo-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _inside(folder: Path, name: str, files: ArchiveFiles) -> Path:
    if ".." in PurePosixPath(name).parts or "\0" in name:
        raise IntegrityError(
            f"{files.path} holds the unsafe name {name!r}, which leads out of its folder; do not use it"
        )
    return folder / name
