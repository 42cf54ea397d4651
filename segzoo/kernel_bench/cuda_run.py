"""Everything that needs a GPU in one record: checks, claims and throughput, each section in a process of its own.

A section that fails, hangs or crashes the GPU's context is a row of the table "section" with its error, and the others
go on. All of it ends within a budget; sections that no time is left for are rows too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from segzoo.device import device_name, pick_device
from segzoo.errors import UnavailableError
from segzoo.kernel_bench.record import COMMAND
from segzoo.kernel_bench.targets import select
from segzoo.kernels.build import build
from segzoo.kernels.sources import cuda_rivals, operators
from segzoo.results import Run, Stopwatch, command_line, environment

BUDGET_S = 450.0
_REHEARSAL = "rehearsed on the CPU with small problems: no figure here says anything about a GPU"
Rows = list[dict[str, Any]]


def bench_cuda(
    rows: Sequence[str] = (),
    *,
    quick: bool = False,
    rehearse: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Run:
    """Runs the sections (those of the named rows, if any are) and gathers what they found.

    Args:
        rows: names or globs of claims; without any, all sections run, the checks and throughput too.
        quick: few rounds; the record is partial.
        rehearse: run on the CPU, at small sizes, to see that all of it works.
        tell: gets a line before and after each section.

    Raises:
        UsageError: a row that does not exist.
        UnavailableError: no CUDA device, or no kernels for it.
    """
    watch = Stopwatch()
    # Chosen before the device is looked for: a wrong word is wrong everywhere.
    chosen = [item.row for item in select(rows, "cuda")] if rows else []
    place = torch.device("cpu") if rehearse else pick_device("cuda")
    _prepare(place)
    from segzoo.kernel_bench.cuda_sections import SECTIONS

    names = [name for name in SECTIONS if not chosen or name in chosen or name == "machine"]
    gathered = _Gathered()
    for name in names:
        left = BUDGET_S - watch.seconds if place.type == "cuda" else SECTIONS[name].limit_s
        tell(f"{name} ...")
        gathered.add(name, *_section(name, place, quick or rehearse, min(left, SECTIONS[name].limit_s)))
        tell(f"{name}: {gathered.sections[-1]['status']} {gathered.sections[-1]['error'] or ''}".rstrip())
    return _run(gathered, place, quick, rehearse, watch)


def _prepare(place: torch.device) -> None:
    """Compiles what the sections load, so that none of them pays for it. Loads nothing: each section does, untried.

    Raises:
        UnavailableError: the kernels cannot be compiled.
    """
    for operator in operators(place.type):
        build(operator, [])
    if place.type == "cuda":
        # A rival that does not compile fails its own sections alone.
        with contextlib.suppress(UnavailableError):
            build(cuda_rivals(), [])


class _Gathered:
    """What the sections have found so far."""

    def __init__(self) -> None:
        self.tables: dict[str, Rows] = {"claim": [], "case": [], "sample": [], "check": [], "figure": []}
        self.metrics: dict[str, float | int | None] = {}
        self.notes: list[str] = []
        self.sections: Rows = []
        self.kernels: str | None = None

    def add(self, name: str, found: dict[str, Any] | None, error: str | None, seconds: float) -> None:
        """Takes in what a section wrote, or why it wrote nothing."""
        found = found or {}
        wrong = [row for row in found.get("check", []) if not row["within"]]
        if wrong:
            place = ", ".join(wrong[0][word] for word in ("part", "case", "result"))
            error = f"{len(wrong)} comparisons out of tolerance, first: {place}"
        self.sections.append(
            {"section": name, "status": "failed" if error else "ok", "seconds": seconds, "error": error}
        )
        for table, rows in self.tables.items():
            rows += found.get(table, [])
        self.metrics |= found.get("metrics", {})
        self.notes += [note for note in found.get("notes", []) if note not in self.notes]
        self.kernels = found.get("kernels", self.kernels)


def _section(
    name: str, place: torch.device, quick: bool, limit_s: float
) -> tuple[dict[str, Any] | None, str | None, float]:
    """What a section found, or None and its error; and its seconds. All that a failed one said goes to stderr."""
    begin = time.monotonic()
    if limit_s < 5:
        return None, "no time was left for it", 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        words = [sys.executable, "-m", "segzoo.kernel_bench.cuda_sections", name, str(place)]
        words += ["quick" if quick else "full", str(file)]
        variables = {**os.environ, **({"SEGZOO_KERNELS": "native"} if place.type == "cuda" else {})}
        try:
            ended = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, env=variables)
        except subprocess.TimeoutExpired as expired:
            print(_text(expired.stderr), end="", file=sys.stderr)
            return None, f"not done after {limit_s:.0f} s", time.monotonic() - begin
        seconds = time.monotonic() - begin
        if file.exists():
            return json.loads(file.read_text()), None, seconds
        print(ended.stderr, end="", file=sys.stderr)
        lines = ended.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"ended with {ended.returncode}", seconds


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _run(gathered: _Gathered, place: torch.device, quick: bool, rehearse: bool, watch: Stopwatch) -> Run:
    failed = [row["section"] for row in gathered.sections if row["status"] != "ok"]
    breakdown = dict(gathered.tables) | {"section": gathered.sections}
    if rehearse:
        breakdown["claim"] = []
    notes = [_REHEARSAL] if rehearse else []
    notes += [f"{row['section']} failed: {row['error']}" for row in gathered.sections if row["error"]]
    return Run(
        command=COMMAND,
        metrics={**gathered.metrics, "sections": len(gathered.sections), "sections_failed": len(failed)},
        conditions={
            "device": str(place),
            "kernels": gathered.kernels,
            "clock": "CUDA events, L2 flushed before every call" if place.type == "cuda" else "wall",
            "quick": quick,
            "rehearsal": rehearse,
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda,
        },
        breakdown=breakdown,
        notes=[*notes, *gathered.notes],
        environment=environment(device_name(place)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="partial" if quick or rehearse or failed else "ok",
        error=None,
    )
