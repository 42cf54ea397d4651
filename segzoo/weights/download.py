"""Brings the weights of a model into the cache, once, whole and checked. No torch."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from segzoo import paths
from segzoo.errors import IntegrityError, NetworkError, SegzooError
from segzoo.weights.formats import detect_format
from segzoo.weights.mirror_errors import MirrorError
from segzoo.weights.partial import Partial
from segzoo.weights.records import Record, hash_file, read_record, record_path, write_record
from segzoo.weights.sources import Source, weights_source
from segzoo.weights.transfer import receive
from segzoo.zoo.schema import Model

# Tries of one mirror in a row that bring no new byte before the next mirror's turn.
FRUITLESS_TRIES = 3
PAUSE_S = 1.0


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
            _say(f"waiting for another process that downloads {target.name}", progress)
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
    failures: list[tuple[str, MirrorError]] = []
    for url in source.urls:
        try:
            return _from_mirror(url, source, target, record, progress=progress)
        except MirrorError as error:
            failures.append((url, error))
            if url != source.urls[-1]:
                _say(f"{url}: {error}; trying the next mirror", progress)
    reasons = "; ".join(f"{url}: {error}" for url, error in failures)
    if any(error.corrupt for _, error in failures):
        raise IntegrityError(f"{source.name}: no mirror gave the right file: {reasons}")
    kept = Partial.beside(target).size
    hint = f" ({kept / 1e6:.1f} MB are kept, the next try goes on from there)" if kept else ""
    raise NetworkError(f"{source.name}: no mirror gave the weights: {reasons}{hint}")


def _from_mirror(url: str, source: Source, target: Path, record: Record | None, *, progress: bool) -> Path:
    """Tries one mirror until the file is whole; gives up after a few tries in a row that bring nothing new."""
    partial = Partial.beside(target)
    most, fruitless = partial.resumable(url)[0], 0
    while True:
        resumed = partial.resumable(url)[0] > 0
        try:
            receive(url, partial, size=source.weights.bytes, progress=progress)
            sha256 = _check_whole(source, partial, record, target)
            break
        except MirrorError as error:
            if error.corrupt and resumed:
                # The bytes of an earlier try may be to blame: once more, from the start.
                partial.discard()
                continue
            fruitless = 0 if partial.size > most else fruitless + 1
            most = max(most, partial.size)
            if partial.size == 0:
                partial.discard()
            if not error.transient or fruitless >= FRUITLESS_TRIES:
                raise
        time.sleep(PAUSE_S * fruitless)
    _publish(partial, target)
    write_record(target, url=url, sha256=sha256)
    return target


def _check_whole(source: Source, partial: Partial, record: Record | None, target: Path) -> str:
    """The hash of a finished download. A wrong file is removed."""
    size, expected = source.weights.bytes, source.sha256
    try:
        detect_format(partial.path)
        sha256 = hash_file(partial.path)
        if size is not None and partial.size != size:
            raise MirrorError(f"gave {partial.size} bytes, the manifest says {size}", corrupt=True)
        if expected is not None and not sha256.startswith(expected):
            raise MirrorError(f"its file has sha256 {sha256[: len(expected)]}, expected is {expected}", corrupt=True)
        if expected is None and record is not None and record.sha256 != sha256:
            raise MirrorError(
                f"its file has sha256 {sha256[:16]}, but the first download, on {record.date}, had "
                f"{record.sha256[:16]}; if the new one is right, delete {record_path(target)}",
                corrupt=True,
            )
    except IntegrityError as error:
        partial.discard()
        raise MirrorError(str(error), corrupt=True) from error
    except MirrorError:
        partial.discard()
        raise
    return sha256


def _publish(partial: Partial, target: Path) -> None:
    """Gives the finished file its name, so that a reader sees nothing or all of it."""
    with partial.path.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial.path, target)
    partial.discard()


def _say(message: str, progress: bool) -> None:
    if progress:
        print(f"segzoo: {message}", file=sys.stderr)
