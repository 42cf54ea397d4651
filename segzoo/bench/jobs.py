"""Runs a cell in a process of its own and says what came of it, even where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from segzoo.bench.journal import read_lines
from segzoo.bench.machine import OtherWork, gpu_state, processor_state
from segzoo.bench.plan import Cell

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one round of one cell gave.

    Attributes:
        latency: facts of the timing; None where it failed.
        static: parameters and operations, in the first round.
        trials: batches that were tried for the highest rate.
        error: why the round, or what came after its timing, failed.
        machine: the machine's state around the round.
    """

    latency: dict[str, Any] | None = None
    static: dict[str, Any] | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)


def run_job(cell: Cell, *, static: bool, throughput: bool, timeout_s: float) -> Outcome:
    """Measures a cell once, in a new process that is ended after `timeout_s` seconds."""
    with tempfile.TemporaryDirectory(prefix="segzoo-bench-") as folder:
        job, answer, log = (Path(folder) / name for name in ("job.json", "answer.jsonl", "log.txt"))
        job.write_bytes(msgspec.json.encode({"cell": cell, "static": static, "throughput": throughput}))
        state = processor_state() | (gpu_state() if not cell.device.startswith("cpu") else {})
        other = OtherWork()
        with log.open("wb") as stream:
            problem = _run_process(
                [sys.executable, "-m", "segzoo.bench.worker", str(job), str(answer)], stream, timeout_s
            )
        lines = list(read_lines(answer))
        errors = [line["message"] for line in lines if line["kind"] == "error"]
        if not errors and problem:
            errors = [_with_last_words(problem, log)]
        return Outcome(
            latency=_first(lines, "latency"),
            static=_first(lines, "static"),
            trials=[_without_kind(line) for line in lines if line["kind"] == "trial"],
            error=errors[0] if errors else None,
            machine=state | {"other_work_percent": other.percent()},
        )


def _run_process(words: list[str], stream: Any, timeout_s: float) -> str | None:
    """Runs to the end; None when all went well, else what happened."""
    search = os.pathsep.join([str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(words, stdout=stream, stderr=stream, env=os.environ | {"PYTHONPATH": search})
    try:
        code = process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return f"took longer than {timeout_s:g} s and was ended"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code == 0:
        return None
    if code == -signal.SIGKILL:
        return "the process was killed, most likely because the memory was exhausted; use a smaller shape or batch"
    if code < 0:
        return f"the process crashed with {signal.Signals(-code).name}"
    return f"the process failed with exit code {code}"


def _with_last_words(problem: str, log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{problem}: {lines[-1].strip()[:300]}" if lines else problem


def _first(lines: list[Any], kind: str) -> dict[str, Any] | None:
    return next((_without_kind(line) for line in lines if line["kind"] == kind), None)


def _without_kind(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "kind"}
