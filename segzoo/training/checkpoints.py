"""Checkpoints: written whole or not at all, the newest sound one is found again, older ones go."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from segzoo.errors import IntegrityError, SegzooError, UsageError

FORMAT = 1
BEST = "best.pt"
FINAL = "model.pt"
_PATTERN = "checkpoint-*.pt"


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Where the checkpoint after `iteration` iterations lies."""
    return folder / f"checkpoint-{iteration:08d}.pt"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    return sorted(folder.glob(_PATTERN), reverse=True)


def save_atomically(path: Path, content: Any) -> None:
    """Writes `content` by torch.save so that `path` is the old file or the whole new one, even if power fails.

    Raises:
        SegzooError: it cannot be written; nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        # torch's writer turns a full disk into a RuntimeError about positions in its archive.
        if isinstance(error, OSError | RuntimeError):
            reason = getattr(error, "strerror", None) or "the disk is full or a limit on the size of files is reached"
            raise SegzooError(f"cannot write {path}: {reason}; the checkpoints before it are whole") from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints."""
    for old in checkpoints(folder)[keep:]:
        with contextlib.suppress(FileNotFoundError):
            old.unlink()


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run had half written."""
    for half in folder.glob(".*.pt.*"):
        half.unlink()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of `save_atomically`, on the CPU; no code in it is run.

    Raises:
        IntegrityError: cut off, corrupt, or no checkpoint of a training.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise IntegrityError(f"{path} is corrupt: wrong checksum of {damaged}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except IntegrityError:
        raise
    except Exception as error:
        # Whatever a damaged archive makes its reader raise: it is a fault of the file.
        raise IntegrityError(f"{path} is no whole checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise IntegrityError(f"{path} is not a checkpoint of `segzoo train` that can be continued")
    return content


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """(path, content, what was passed over) of the newest sound checkpoint in a folder; None without any."""
    passed: list[str] = []
    for path in checkpoints(folder):
        try:
            return path, read_checkpoint(path), passed
        except IntegrityError as error:
            passed.append(str(error))
    return None


def check_same_run(path: Path, content: dict[str, Any], settings: dict[str, Any]) -> None:
    """Holds a checkpoint's settings to those of the run that wants to continue it.

    Raises:
        UsageError: they differ, and the result would be neither the one nor the other.
    """
    before = content["settings"]
    other = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
    if other:
        shown = ", ".join(f"{key} {before.get(key)!r} (now {settings.get(key)!r})" for key in other[:3])
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise UsageError(
            f"{path.parent} holds a run with {shown}{more}; continue it with the same words, or choose another "
            "--work-dir"
        )


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a work directory while the body runs; the system frees it if the process dies.

    Raises:
        UsageError: another run is in it.
        SegzooError: the folder cannot be made or written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"the work directory {folder} is in use by another run; choose another --work-dir") from None
    except OSError as error:
        raise SegzooError(f"cannot use {folder} as work directory: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
