"""What is known of a cached file: a small JSON beside it with its hash, so that it is hashed only once. No torch."""

from __future__ import annotations

import datetime
import functools
import hashlib
from pathlib import Path

import msgspec

from segzoo.errors import IntegrityError
from segzoo.results import write_text_atomically

_BLOCK = 1 << 20


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one cached file.

    Attributes:
        url: the mirror that gave it; None for a file that was put there by hand.
        mtime_ns: its time of change when it was hashed; a file with the recorded size and time is not hashed again.
        date: when it came, UTC, ISO 8601.
    """

    url: str | None
    sha256: str
    bytes: int
    mtime_ns: int
    date: str

    def describes(self, path: Path) -> bool:
        """True when the file's size and time are the recorded ones."""
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.bytes, self.mtime_ns)


def record_path(path: Path) -> Path:
    """The record's place: beside the file, under its name with ".segzoo.json" added."""
    return path.with_name(path.name + ".segzoo.json")


def read_record(path: Path) -> Record | None:
    """The record of the file at `path`, or None where there is none.

    Raises:
        IntegrityError: there is one that cannot be read.
    """
    place = record_path(path)
    try:
        return msgspec.json.decode(place.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise IntegrityError(f"the record {place} is not readable ({error}); delete it and try again") from error


def write_record(path: Path, *, url: str | None, sha256: str, date: str | None = None) -> Record:
    """Records the file at `path` as it is now, atomically, and returns the record.

    Raises:
        SegzooError: the record cannot be written.
    """
    status = path.stat()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds")
    record = Record(url=url, sha256=sha256, bytes=status.st_size, mtime_ns=status.st_mtime_ns, date=date or now)
    write_text_atomically(record_path(path), msgspec.json.format(msgspec.json.encode(record)).decode() + "\n")
    return record


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits, read now whatever is recorded."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def weights_sha256(path: Path) -> str:
    """The SHA-256 of a file of weights, from its record where that still describes it, else computed once.

    Raises:
        IntegrityError: there is no such file.
    """
    path = Path(path)
    try:
        record = read_record(path)
        if record is not None and record.describes(path):
            return record.sha256
        status = path.stat()
        return _hash_once(path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError as error:
        raise IntegrityError(f"there is no weights file {path}") from error


@functools.cache
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:
    return hash_file(path)
