"""Run: the one record that every measuring command returns, prints and writes. JSON in and out; no torch."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from segzoo.errors import IntegrityError, SegzooError

SCHEMA = 1
_PACKAGES = ("torch", "numpy", "opencv-python-headless", "timm")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and the software a number was measured with."""

    segzoo: str
    python: str
    platform: str
    cpu: str
    cpu_count: int
    packages: dict[str, str]
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A published figure beside the measured one; `verdict` says whether they agree."""

    metric: str
    value: float
    source: str
    measured: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    within: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One result with all that would change it.

    Attributes:
        command: the command that measured it ("eval", "flops", ...).
        model: name, weights hash ("weights_sha256"), layout, params.
        metrics: numbers with the unit in the key ("miou_percent", "macs", "latency_ms_median").
        conditions: what would change the numbers (shape, batch, dtype, device, kernel, protocol, data).
        expected: published figures, compared.
        breakdown: finer tables by name, each a list of rows ("class", "module", "image").
        notes: fallbacks, operators that were not counted, partial runs. A run with notes is marked.
        status: "ok", "partial" or "failed" (then `error` says why).
    """

    command: str
    model: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | int | None] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    expected: list[Expected] = field(default_factory=list)
    breakdown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    environment: Environment | None = None
    command_line: list[str] = field(default_factory=list)
    started: str = ""
    duration_s: float = 0.0
    status: str = "ok"
    error: str | None = None
    schema: int = SCHEMA

    def to_json(self, *, indent: int = 2) -> str:
        """The record as JSON text; NaN becomes null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=indent).decode()


class NotARecordError(IntegrityError):
    """JSON that is no record at all."""


def read_run(path: Path) -> Run:
    """The record in a JSON file.

    Raises:
        IntegrityError: not a record, or written by a newer schema.
    """
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise IntegrityError(f"{path} is not a segzoo record: {error}") from error
    return run_of(raw, str(path))


def run_of(raw: object, where: str) -> Run:
    """The record that decoded JSON is; `where` names it in errors.

    Raises:
        NotARecordError: other JSON.
        IntegrityError: of a newer schema, or with fields of wrong types.
    """
    if not isinstance(raw, dict) or "command" not in raw:
        raise NotARecordError(f"{where} is not a segzoo record: no 'command' in it")
    if raw.get("schema", 0) > SCHEMA:
        raise IntegrityError(f"{where} has schema {raw['schema']}, this segzoo reads up to {SCHEMA}; update segzoo")
    try:
        return msgspec.convert(raw, Run)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"{where} is not a valid segzoo record: {error}") from error


def write_text_atomically(path: Path, text: str) -> None:
    """Writes `text` to `path` so that a reader sees the old file or the whole new one, never a part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise SegzooError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise SegzooError(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


@dataclass
class Stopwatch:
    """Start time (UTC, ISO 8601) and seconds since, for a Run's `started` and `duration_s`."""

    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"))
    _begin: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begin


def command_line() -> list[str]:
    """The words this process was started with, the program's path shortened to its name."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


@functools.cache
def environment(device: str | None = None) -> Environment:
    """This machine and its software; versions come from package metadata, so nothing heavy is imported."""
    return Environment(
        segzoo=_version("segzoo") or "unknown",
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=_cpu_model(),
        cpu_count=os.cpu_count() or 1,
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        device=device,
    )


def _version(package: str) -> str | None:
    import importlib.metadata  # 10 ms, and only records need it

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in _proc_cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _proc_cpuinfo() -> Iterator[str]:
    try:
        yield from Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return
