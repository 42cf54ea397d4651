"""What lies in the cache of weights: listing, hashing again, removing. One record a file. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from segzoo import paths
from segzoo.errors import IntegrityError, SegzooError
from segzoo.results import Run, Stopwatch, command_line
from segzoo.weights.download import lock_path
from segzoo.weights.formats import detect_format
from segzoo.weights.partial import Partial
from segzoo.weights.records import Record, hash_file, read_record, record_path
from segzoo.weights.sources import Source
from segzoo.zoo.manifest import load_manifest

UNUSED = "(no model)"


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """A file of the cache.

    Attributes:
        path: the weights file, which need not be there when only an unfinished download is.
        sources: the entries of the zoo that use it; empty for a file that no entry names.
    """

    path: Path
    sources: tuple[Source, ...]

    @property
    def models(self) -> list[str]:
        """The names of the models that use it."""
        return list(dict.fromkeys(source.name for source in self.sources))

    @property
    def partial(self) -> Partial:
        """Its unfinished download."""
        return Partial.beside(self.path)


def cached_files(names: list[str] | None = None) -> list[CachedFile]:
    """The files of the cache by path, finished and unfinished; with `names` only those of these models."""
    users: dict[Path, list[Source]] = {}
    for name, model in load_manifest().models.items():
        for weights in model.weights:
            source = Source(name=name, weights=weights)
            for target in source.targets:
                users.setdefault(target, []).append(source)
    files = [CachedFile(path=path, sources=tuple(users.get(path, ()))) for path in sorted(_weights_in_cache())]
    return files if names is None else [file for file in files if set(file.models) & set(names)]


def list_cache() -> list[Run]:
    """One record a cached file: its models, bytes, hash, origin and date; nothing is read but the records."""
    return [_run(file, _glance(file), _record_or_none(file)) for file in cached_files()]


def verify_cache(names: list[str] | None = None) -> list[Run]:
    """Reads every finished file again and compares it with its record and with the hash the zoo knows.

    Returns:
        one record a file, with status "failed" and the reason where it is not what it should be.
    """
    runs = []
    for file in cached_files(names):
        if file.path.is_file():
            watch = Stopwatch()
            state, error = "whole", None
            try:
                state = _verify(file)
            except IntegrityError as problem:
                state, error = "damaged", str(problem)
            runs.append(_run(file, state, _record_or_none(file), error=error, watch=watch))
    return runs


def prunable(names: list[str] | None = None, *, everything: bool = False) -> list[CachedFile]:
    """What `prune` would remove: all files of the models named, or `everything`, or else what is of no use.

    Of no use are unfinished downloads and files that no entry of the zoo names.
    """
    files = cached_files(names)
    if names is not None or everything:
        return files
    return [file for file in files if not file.sources or file.partial.size]


def prune(file: CachedFile, *, everything: bool = False, forget: bool = False, dry_run: bool = False) -> Run:
    """Removes a file's unfinished download and, with `everything` or where no model uses it, the file itself.

    The record stays, unless `forget`: a later download of the same address is compared with it.

    Raises:
        SegzooError: a file that cannot be removed.
    """
    doomed = [file.partial.path, file.partial.origin_path]
    if everything or not file.sources:
        doomed.append(file.path)
        doomed += [record_path(file.path)] if forget else []
    there = [path for path in doomed if path.is_file()]
    freed = sum(path.stat().st_size for path in there)
    state = "would be removed" if dry_run else "removed"
    record = _record_or_none(file)
    if not dry_run:
        try:
            with FileLock(lock_path(file.path)).acquire(timeout=0):
                for path in there:
                    path.unlink(missing_ok=True)
        except Timeout:
            state, freed = "in use by another process", 0
        except OSError as error:
            raise SegzooError(f"cannot remove {error.filename or file.path}: {error.strerror}") from error
    return _run(file, state, record, size=freed)


def _weights_in_cache() -> Iterator[Path]:
    """The paths of finished files and of those that are only begun; our own notes and locks are none."""
    folder = paths.weights_folder()
    found = {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
    for path in found:
        if path.name.endswith(".partial"):
            target = path.with_name(path.name.removesuffix(".partial"))
            if target not in found:
                yield target
        elif not path.name.endswith((".segzoo.json", ".partial.json")):
            yield path


def _glance(file: CachedFile) -> str:
    if not file.path.is_file():
        return "unfinished"
    record = _record_or_none(file)
    if record is None:
        return "not recorded"
    return "recorded" if record.describes(file.path) else "changed"


def _verify(file: CachedFile) -> str:
    detect_format(file.path)
    sha256, record = hash_file(file.path), read_record(file.path)
    if record is not None and sha256 != record.sha256:
        raise IntegrityError(
            f"{file.path} has sha256 {sha256[:16]}, recorded on {record.date} was {record.sha256[:16]}"
        )
    for source in file.sources:
        if source.sha256 and not sha256.startswith(source.sha256):
            raise IntegrityError(f"{file.path} has sha256 {sha256[:16]}, the zoo says {source.sha256[:16]}")
    known = any(source.sha256 for source in file.sources)
    return "whole" if known else "unchanged" if record else "not recorded"


def _record_or_none(file: CachedFile) -> Record | None:
    """The record of a file that is there; that of a removed one waits for the next download."""
    with contextlib.suppress(IntegrityError):
        return read_record(file.path) if file.path.is_file() else None
    return None


def _run(
    file: CachedFile,
    state: str,
    record: Record | None,
    *,
    size: int | None = None,
    error: str | None = None,
    watch: Stopwatch | None = None,
) -> Run:
    if size is None:
        size = file.path.stat().st_size if file.path.is_file() else file.partial.size
    return Run(
        command="cache",
        model={"name": ", ".join(file.models) or UNUSED},
        metrics={"bytes": size},
        conditions={
            "state": state,
            "path": str(file.path),
            "url": record.url if record else None,
            "sha256": record.sha256 if record else None,
            "date": record.date if record else None,
        },
        command_line=command_line(),
        started=watch.started if watch else "",
        duration_s=watch.seconds if watch else 0.0,
        status="failed" if error else "ok",
        error=error,
    )
