"""Records from files and folders: JSON (one record or a list of them) and JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from segzoo.errors import IntegrityError, UsageError
from segzoo.results import NotARecordError, Run, run_of

_LINES = ".jsonl"
_SUFFIXES = (".json", _LINES)


def read_records(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """The records in files and, for a folder, in all .json and .jsonl files below it.

    Returns:
        The records in the order given, folders by name, and a line for each thing that was passed over: files
        of a folder that hold other JSON, and a last line that an interrupted writer left unfinished.

    Raises:
        UsageError: a path that does not exist, or a folder without records.
        IntegrityError: a named file that holds no records, or a record of a newer schema.
    """
    runs: list[Run] = []
    notices: list[str] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist; give files or folders of records")
        before = len(runs)
        for file in _files(path):
            try:
                runs += _records_of(file, notices)
            except NotARecordError as error:
                if file == path:
                    raise IntegrityError(f"{error}; give what --output wrote") from error
                notices.append(f"passed over: {error}")
        if path.is_dir() and len(runs) == before:
            raise UsageError(f"no records in {path}: none of its .json and .jsonl files holds one")
    return runs, notices


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())


def _records_of(file: Path, notices: list[str]) -> Iterator[Run]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise IntegrityError(f"cannot read {file}: {error.strerror}") from error
    raws = _lines(file, content, notices) if file.suffix == _LINES else _whole(file, content)
    for where, raw in raws:
        yield run_of(raw, where)


def _whole(file: Path, content: bytes) -> list[tuple[str, Any]]:
    raw = _decoded(str(file), content)
    return [(str(file), item) for item in (raw if isinstance(raw, list) else [raw])]


def _lines(file: Path, content: bytes, notices: list[str]) -> Iterator[tuple[str, Any]]:
    lines = content.split(b"\n")
    # A complete file ends with a newline, so that its last piece is empty.
    unfinished = lines.pop()
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{file}, line {number}", _decoded(f"{file}, line {number}", line)
    if unfinished.strip():
        notices.append(f"passed over: the last line of {file} is unfinished; its writer was interrupted")


def _decoded(where: str, content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{where} is not a segzoo record: {error}") from error
