"""JSON lines that several writers may append to and that survive a crash in the middle of a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from segzoo.errors import IntegrityError, SegzooError


def append_line(path: Path, value: Any) -> None:
    """Appends `value` as one line of JSON, on disk when this returns.

    An unfinished last line, which a writer that died has left, is cut off first.

    Raises:
        SegzooError: the file cannot be written.
    """
    line = msgspec.json.encode(value) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"), path.open("a+b") as file:
            _cut_unfinished(path, file.fileno())
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SegzooError(f"cannot write {path}: {error.strerror}") from error


def read_lines(path: Path) -> Iterator[Any]:
    """The values of all finished lines; nothing where there is no file.

    Raises:
        IntegrityError: a finished line that is no JSON.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            yield msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise IntegrityError(f"{path}, line {number} is no JSON: {error}; remove the line or the file") from error


def _cut_unfinished(path: Path, descriptor: int) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(descriptor, content.rfind(b"\n") + 1)
