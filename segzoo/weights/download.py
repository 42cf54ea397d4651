"""Brings the weights of a model into the cache, once, whole and checked. No torch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from segzoo import paths
from segzoo.errors import IntegrityError, NetworkError, SegzooError
from segzoo.weights.formats import detect_format
from segzoo.weights.mirror_errors import MirrorError
from segzoo.weights.mirrors import bring, say
from segzoo.weights.partial import Partial
from segzoo.weights.records import Record, hash_file, read_record, record_path, write_record
from segzoo.weights.sources import Source, file_name, weights_source
from segzoo.weights.transfer import Wanted
from segzoo.zoo.schema import Model


def fetch(name: str, model_entry: Model, *, part: str = "model", progress: bool = True) -> Path:
    """The path of a model's weights, downloaded first where they are not in the cache.

    Args:
        name: the model's name, for messages.
        model_entry: its entry in the manifest.
        part: "model" or "backbone".
        progress: show a bar (on a terminal) and a word on failed mirrors, on stderr.

    Raises:
        UsageError: the entry has no weights for this part.
        NetworkError: no mirror gave the file, or it is not cached and the network is switched off.
        IntegrityError: the file has another hash than it should, or the cached one has changed.
        SegzooError: the disk is full or not writable.
    """
    return obtain(weights_source(name, model_entry, part), progress=progress)


def obtain(source: Source, *, force: bool = False, progress: bool = True) -> Path:
    """The path of a source's file; see `fetch`. `force` downloads even what is cached, which stays until then."""
    path = source.embedded
    if path is not None or (not force and (path := cached(source))):
        return path
    target = source.targets[0]
    if paths.offline() and (force or not any(path.is_file() for path in source.targets)):
        raise NetworkError(
            f"{source.name}: the network is switched off (--offline, SEGZOO_OFFLINE) and the weights "
            f"{'cannot be downloaded anew' if force else f'are not in the cache; the file belongs at {target}'}"
        )
    with _only_one(target, progress=progress):
        # Another process may have brought it while this one waited.
        if not force and (path := cached(source) or _adopt(source)):
            return path
        return _download(source, target, progress=progress)


def cached(source: Source) -> Path | None:
    """The cached file, if it is there, recorded, unchanged since and of the known hash. Reads no weights."""
    for path in source.targets:
        record = read_record(path) if path.is_file() else None
        if record is not None and record.describes(path):
            _check_known(source, path, record.sha256)
            return path
    return None


def expected_path(source: Source) -> Path:
    """Where the file is: in the package, in the cache, or where a download would put it."""
    found = source.embedded or next((path for path in source.targets if path.is_file()), None)
    return found or source.targets[0]


def _adopt(source: Source) -> Path | None:
    """A file that somebody put into the cache, or that was touched: hashed, compared and recorded."""
    for path in source.targets:
        if not path.is_file():
            continue
        record, sha256 = read_record(path), hash_file(path)
        if record is not None and record.sha256 != sha256:
            raise IntegrityError(
                f"{source.name}: {path} has changed since {record.date} (sha256 {sha256[:16]}, was "
                f"{record.sha256[:16]}); {_cure(source)}"
            )
        try:
            detect_format(path)
        except IntegrityError as error:
            raise IntegrityError(f"{source.name}: {error}; {_cure(source)}") from error
        _check_known(source, path, sha256)
        write_record(path, url=record.url if record else None, sha256=sha256, date=record.date if record else None)
        return path
    return None


def _check_known(source: Source, path: Path, sha256: str) -> None:
    if source.sha256 and not sha256.startswith(source.sha256):
        raise IntegrityError(
            f"{source.name}: {path} has sha256 {sha256[:16]}..., expected is {source.sha256[:16]}...; {_cure(source)}"
        )


def _cure(source: Source) -> str:
    part = "" if source.weights.part == "model" else f" --part {source.weights.part}"
    return f"`segzoo download {source.name}{part} --force` brings it anew"


@contextlib.contextmanager
def _only_one(target: Path, *, progress: bool) -> Iterator[None]:
    """Holds the target's lock; the system drops it when a process dies, so none is left behind."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_path(target))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for another process that downloads {target.name}", progress)
            lock.acquire()
    except OSError as error:
        raise SegzooError(f"cannot write in {target.parent}: {error.strerror}; set SEGZOO_HOME elsewhere") from error
    try:
        yield
    finally:
        lock.release()


def lock_path(target: Path) -> Path:
    """The lock of a cached file: a hidden file beside it."""
    return target.with_name(f".{target.name}.lock")


def _download(source: Source, target: Path, *, progress: bool) -> Path:
    record = read_record(target)
    wanted = Wanted(name=source.name, size=source.weights.bytes)
    url, sha256 = bring(
        source.urls, target, wanted, functools.partial(_check_whole, source, record, target), progress=progress
    )
    write_record(target, url=url, sha256=sha256)
    return target


def _check_whole(source: Source, record: Record | None, target: Path, url: str, partial: Partial) -> str:
    """The hash of a finished download.

    Mirrors of one file name have one file, so that what the first download gave binds all of them. Another name is
    another file of the same weights, such as .safetensors beside .bin.
    """
    size, expected = source.weights.bytes, source.sha256
    detect_format(partial.path)
    sha256 = hash_file(partial.path)
    if size is not None and partial.size != size:
        raise MirrorError(f"gave {partial.size} bytes, the manifest says {size}", corrupt=True)
    if expected is not None and not sha256.startswith(expected):
        raise MirrorError(f"its file has sha256 {sha256[: len(expected)]}, expected is {expected}", corrupt=True)
    known = record is not None and file_name(record.url or source.urls[0]) == file_name(url)
    if expected is None and record is not None and known and record.sha256 != sha256:
        raise MirrorError(
            f"its file has sha256 {sha256[:16]}, but the first download, on {record.date}, had "
            f"{record.sha256[:16]}; if the new one is right, delete {record_path(target)}",
            corrupt=True,
        )
    return sha256
