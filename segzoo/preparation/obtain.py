"""Archives: downloaded where they are not here, and compared with what is published of them."""

from __future__ import annotations

import hashlib
import tarfile
from functools import partial
from pathlib import Path

from filelock import FileLock

from segzoo import paths
from segzoo.errors import IntegrityError, NetworkError, SegzooError
from segzoo.preparation.plan import Part
from segzoo.weights.formats import describe_start
from segzoo.weights.mirror_errors import MirrorError
from segzoo.weights.mirrors import bring
from segzoo.weights.partial import Partial
from segzoo.weights.records import read_record, write_record
from segzoo.weights.transfer import Wanted
from segzoo.zoo.schema import Archive

_BLOCK = 1 << 20
_MAGIC = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")


def obtain(name: str, part: Part, *, progress: bool = True) -> str:
    """SHA-256 of an archive, which is at its place afterwards: as it was published, as far as that is known.

    Args:
        name: the data set's, for messages.
        part: the archive and its place.
        progress: show a bar (on a terminal) and a word on failed mirrors, on stderr.

    Raises:
        NetworkError: no address gave it, or the network is switched off.
        IntegrityError: it is not the published file.
        SegzooError: the disk is full or not writable.
    """
    archive, path = part.archive, part.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if path.is_file():
                return _known(path, archive)
            if paths.offline():
                raise NetworkError(
                    f"{name}: the network is switched off (--offline, SEGZOO_OFFLINE) and {path} is not there"
                )
            return _download(name, archive, path, progress=progress)
    except OSError as error:
        raise SegzooError(f"cannot write in {path.parent}: {error.strerror or error}") from error


def _download(name: str, archive: Archive, path: Path, *, progress: bool) -> str:
    wanted = Wanted(
        name=name,
        what="archive",
        size=archive.bytes,
        check_start=_check_start,
        room="make room, or choose another disk with --root and --archives",
    )
    url, sha256 = bring(archive.url, path, wanted, partial(_check_partial, archive), progress=progress)
    write_record(path, url=url, sha256=sha256)
    return sha256


def _known(path: Path, archive: Archive) -> str:
    """The hash of an archive that is here, from its record where that still describes it."""
    record = read_record(path)
    if record is not None and record.describes(path):
        return record.sha256
    try:
        sha256 = _compare(path, archive)
    except MirrorError as error:
        raise IntegrityError(
            f"{path} is not the published file: {error}; fetch it anew, or move it away so that it is downloaded"
        ) from error
    write_record(path, url=None, sha256=sha256)
    return sha256


def _check_partial(archive: Archive, url: str, partial_file: Partial) -> str:
    return _compare(partial_file.path, archive)


def _compare(path: Path, archive: Archive) -> str:
    """The SHA-256 of a file that has the published size and hashes.

    Raises:
        MirrorError: it has others.
    """
    size = path.stat().st_size
    if archive.bytes is not None and size != archive.bytes:
        raise MirrorError(f"it has {size} bytes, published are {archive.bytes}", corrupt=True)
    published = {"md5": archive.md5, "sha1": archive.sha1, "sha256": archive.sha256}
    digests = {kind: hashlib.new(kind) for kind, value in published.items() if value or kind == "sha256"}
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
    for kind, value in published.items():
        if value and digests[kind].hexdigest() != value.lower():
            raise MirrorError(f"its {kind} is {digests[kind].hexdigest()}, published is {value}", corrupt=True)
    return digests["sha256"].hexdigest()


def _check_start(start: bytes) -> None:
    """Refuses first bytes that are no zip, tar or compressed tar.

    Raises:
        ValueError: what it looks like instead.
    """
    if start.startswith(_MAGIC):
        return
    try:
        tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        raise ValueError(describe_start(start)) from None
