"""Reads the files of a data set straight from its zip or tar archive, safely from several threads and processes.

The archive's directory is read once. After that a file is one or two reads at known places (pread), which have no
position that threads or forked processes could disturb.
"""

from __future__ import annotations

import functools
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from segzoo.data.files import Identity, check_unchanged
from segzoo.data.unpacked import compressed_tar, plain_tar
from segzoo.errors import DatasetError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_HEADER_START = b"PK\x03\x04"
_ENCRYPTED = 0x1
# What the standard library's readers raise on directories that make no sense.
_DAMAGE = (
    OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, struct.error, NotImplementedError, ValueError,
    OverflowError, IndexError,
)  # fmt: skip


class _Member(NamedTuple):
    """One file of an archive: where its bytes begin (in a zip: its header), how many, and how they are packed."""

    offset: int
    stored: int
    size: int
    method: int
    crc: int | None


class _Archive:
    """An archive's directory and its open file; the file is opened anew in a process that got this by pickling."""

    def __init__(self, path: Path, identity: Identity, members: dict[str, _Member]) -> None:
        self.path, self.identity, self.members = path, identity, members
        self.folders = _folders(members)
        self._descriptor: int | None = _open(path)

    def __del__(self) -> None:
        descriptor = self.__dict__.get("_descriptor")
        if descriptor is not None:
            os.close(descriptor)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_descriptor": None}

    def pread(self, count: int, offset: int) -> bytes:
        """`count` bytes at `offset`, fewer at the end; the archive must still be what it was."""
        if self._descriptor is None:
            self._descriptor = _open(self.path)
        status = os.fstat(self._descriptor)
        check_unchanged(str(self.path), Identity(status.st_size, status.st_mtime_ns), self.identity)
        parts = []
        while count > 0 and (part := os.pread(self._descriptor, count, offset)):
            parts.append(part)
            count, offset = count - len(part), offset + len(part)
        return b"".join(parts)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))


class ArchiveFiles:
    """Files in an archive below one of its folders.

    Attributes:
        place: path of the archive and the folder in it.
        path: the archive as it was given.
    """

    def __init__(self, archive: _Archive, path: Path, root: str = "") -> None:
        self._archive, self.path, self._root = archive, path, root
        self.place = f"{path}/{root}" if root else str(path)

    def _full(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root and name else self._root or name

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of this name; "" is the root."""
        return self._full(name) in self._archive.folders

    def has_file(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self._full(name) in self._archive.members

    def below(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder, relative to the folder."""
        full = self._full(folder)
        start = f"{full}/" if full else ""
        return (name[len(start) :] for name in self._archive.members if name.startswith(start))

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, sorted."""
        full = self._full(folder)
        start = f"{full}/" if full else ""
        rest = (name[len(start) :] for name in self._archive.folders if name and name.startswith(start))
        return sorted(name for name in rest if name and "/" not in name)

    def identity(self, name: str) -> Identity:
        """The file's size unpacked, and the time of the archive.

        Raises:
            DatasetError: there is no such file.
        """
        return Identity(self._member(name).size, self._archive.identity.mtime_ns)

    def read(self, name: str, since: Identity | None = None) -> bytes:
        """All bytes of a file, unpacked.

        Raises:
            DatasetError: there is no such file, it is damaged, or the archive has changed since it was opened.
        """
        member = self._member(name)
        try:
            start = member.offset if member.crc is None else self._after_local_header(member, name)
            data = self._archive.pread(member.stored, start)
        except OSError as error:
            raise DatasetError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) < member.stored:
            raise DatasetError(f"{self.where(name)} is truncated: the archive ends inside it; get the archive anew")
        return self._unpacked(data, member, name)

    def where(self, name: str) -> str:
        """Path of the archive and name in it."""
        return f"{self.place}/{name}"

    def inside(self, folder: str) -> ArchiveFiles:
        """The files of a folder in the archive."""
        return ArchiveFiles(self._archive, self.path, self._full(folder)) if folder else self

    def roots_with(self, folder: str) -> list[str]:
        """The folders of the archive that have `folder` in them, the ones nearest to the top first."""
        end = f"/{folder}"
        found = [name[: -len(end)] for name in self._archive.folders if name.endswith(end)]
        found += [""] if folder in self._archive.folders else []
        return sorted(found, key=lambda name: (name.count("/") + (name != ""), name))

    def _member(self, name: str) -> _Member:
        member = self._archive.members.get(self._full(name))
        if member is None:
            raise DatasetError(f"there is no file {self.where(name)}")
        return member

    def _after_local_header(self, member: _Member, name: str) -> int:
        """A zip's directory does not say where a file's bytes begin: its own header's length does."""
        header = self._archive.pread(_LOCAL_HEADER.size, member.offset)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_HEADER_START):
            raise DatasetError(f"{self.where(name)} is damaged: no header where it should be; get the archive anew")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        return member.offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)

    def _unpacked(self, data: bytes, member: _Member, name: str) -> bytes:
        if member.crc is None:
            return data
        try:
            # One byte more than announced is enough to see that it is too long.
            unpacker = zlib.decompressobj(wbits=-15)
            whole = unpacker.decompress(data, member.size + 1) if member.method == zipfile.ZIP_DEFLATED else data
        except zlib.error as error:
            raise DatasetError(f"{self.where(name)} is damaged ({error}); get the archive anew") from error
        if len(whole) != member.size or zlib.crc32(whole) != member.crc:
            raise DatasetError(f"{self.where(name)} is damaged (wrong checksum); get the archive anew")
        return whole


def is_archive(path: Path) -> bool:
    """Whether a path is a file, and so an archive or a mistake; a folder is none."""
    return path.is_file()


def open_archive(path: Path, *, unpack_in: Path | None = None) -> ArchiveFiles:
    """The files of a zip or tar archive; a compressed tar is unpacked to a plain one first, once (unpacked.py).

    Args:
        path: the archive.
        unpack_in: the folder for the plain tar; below the data folder where None.

    Raises:
        DatasetError: it is neither, damaged, encrypted or packed in a way that is not known.
    """
    tar = plain_tar(path, unpack_in) if compressed_tar(path) else path
    try:
        status = tar.stat()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    return ArchiveFiles(_opened(tar, Identity(status.st_size, status.st_mtime_ns), str(path)), path)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, identity: Identity, shown: str) -> _Archive:
    """One directory for all splits of an archive."""
    members: Callable[[Path, str], dict[str, _Member]]
    if zipfile.is_zipfile(path):
        members = _zip_members
    elif tarfile.is_tarfile(path):
        members = _tar_members
    else:
        raise DatasetError(
            f"{shown} is no zip or tar archive, or one that was cut off; give a data set's folder or its archive"
        )
    try:
        return _Archive(path, identity, members(path, shown))
    except _DAMAGE as error:
        raise DatasetError(f"the archive {shown} is damaged ({error}); get it anew") from error


def _zip_members(path: Path, shown: str) -> dict[str, _Member]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if entry.flag_bits & _ENCRYPTED:
                raise DatasetError(f"{shown} is encrypted; unpack it and give the folder")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DatasetError(f"{shown}/{entry.filename} is packed by method {entry.compress_type}; unpack it")
            found[_clean(entry.filename)] = _Member(
                entry.header_offset, entry.compress_size, entry.file_size, entry.compress_type, entry.CRC
            )
    return found


def _tar_members(path: Path, shown: str) -> dict[str, _Member]:
    found: dict[str, _Member] = {}
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
            if entry.islnk() and _clean(entry.linkname) in found:
                found[_clean(entry.name)] = found[_clean(entry.linkname)]
            elif entry.isreg() and entry.sparse is None:
                found[_clean(entry.name)] = _Member(entry.offset_data, entry.size, entry.size, 0, None)
    if not found:
        raise DatasetError(f"{shown} has no files")
    return found


def _clean(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _folders(members: dict[str, _Member]) -> set[str]:
    found = {""}
    for name in members:
        while name := name.rpartition("/")[0]:
            if name in found:
                break
            found.add(name)
    return found
