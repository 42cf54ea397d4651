"""A compressed tar has no random access: it is unpacked to a plain tar in the data folder, once."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from segzoo import paths
from segzoo.errors import DatasetError

_BLOCK = 1 << 20
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


def compressed_tar(path: Path) -> bool:
    """Whether a file is packed with gzip, bzip2 or xz, told by its first bytes."""
    return _opener(path) is not None


def plain_tar(path: Path, folder: Path | None = None) -> Path:
    """The plain tar of a compressed one in `folder` (below the data folder where None), made if it is not there yet.

    It is known by the archive's path, size and time; a new archive makes a new one. What is left of an
    interrupted unpacking is never taken for a whole one.

    Raises:
        DatasetError: the archive is damaged, or the disk has no room for it.
    """
    status = path.stat()
    facts = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    folder = folder or paths.data_folder() / "unpacked"
    target = folder / f"{path.name.partition('.')[0]}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.tar"
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                _unpack(path, target)
    except OSError as error:
        raise DatasetError(f"cannot unpack {path} to {target}: {error.strerror or error}") from error
    return target


def _unpack(path: Path, target: Path) -> None:
    print(
        f"segzoo: {path.name} is compressed as a whole, so that no file in it can be read without all before it; "
        f"unpacking it once to {target} (a .zip, a plain .tar or a folder needs no such copy)",
        file=sys.stderr,
    )
    opener = _opener(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with opener(path, "rb") as packed, os.fdopen(descriptor, "wb") as plain:
            _copy(packed, plain, target.parent)
        os.replace(temporary, target)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is damaged or was cut off ({error}); get it anew") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _copy(packed: IO[bytes], plain: IO[bytes], folder: Path) -> None:
    while block := packed.read(_BLOCK):
        plain.write(block)
        if plain.tell() % (256 * _BLOCK) == 0 and shutil.disk_usage(folder).free < 512 * _BLOCK:
            raise DatasetError(f"the disk of {folder} is almost full; make room, or set SEGZOO_DATA to another disk")


def _opener(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    return next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
