"""The benchmark: rounds over all cells, each beside the yardstick, on disk after every step."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from segzoo.bench.jobs import Outcome, run_job
from segzoo.bench.journal import append_line, read_lines
from segzoo.bench.plan import Cell
from segzoo.bench.record import bench_run
from segzoo.errors import IntegrityError, UsageError
from segzoo.results import Run, Stopwatch

Tell = Callable[[str], None]


@dataclass(kw_only=True)
class Progress:
    """What is known of a cell so far."""

    rounds: list[Outcome] = field(default_factory=list)
    started: str = ""
    seconds: float = 0.0


class _Line(msgspec.Struct, kw_only=True):
    """One round of one cell, as it lies in the file of rounds."""

    key: str
    outcome: Outcome
    started: str
    seconds: float


def bench(
    cells: list[Cell],
    output: Path,
    *,
    rounds: int = 3,
    throughput: bool = False,
    resume: bool = False,
    timeout_s: float = 600.0,
    tell: Tell = lambda line: None,
) -> Iterator[Run]:
    """Measures all cells and yields each record as soon as its last round is done.

    In every round the yardstick runs first and then every cell, each in a process of its own, so that what
    makes the machine slower for a while meets all cells alike. A cell that fails is not run again in the
    later rounds. Records are appended to `output`; the rounds so far are kept beside it until all is done.

    Args:
        cells: what to measure.
        output: JSON lines.
        rounds: measurements of each cell.
        throughput: also look for the batch with the highest rate, in the first round.
        resume: go on where a run with the same output has ended; records that failed are measured again.
        timeout_s: longest time of one process.
        tell: gets a line for every process that is started.

    Raises:
        UsageError: `output` holds records and `resume` is off.
        IntegrityError: an output that holds something else.
    """
    notebook = output.with_name(output.name + ".rounds")
    done = _finished(output)
    if not resume and (done or notebook.exists()):
        raise UsageError(f"{output} exists already; --resume goes on with it, or give another --output")
    left = [cell for cell in cells if cell.key not in done]
    known = _progress(notebook)
    for number in range(rounds):
        for stick in {cell.yardstick().key: cell.yardstick() for cell in left}.values():
            _one_round(stick, number, known, notebook, timeout_s=timeout_s, tell=tell)
        for cell in left:
            progress = known.setdefault(cell.key, Progress())
            if not (progress.rounds and progress.rounds[-1].latency is None):
                _one_round(cell, number, known, notebook, throughput=throughput, timeout_s=timeout_s, tell=tell)
            if number == rounds - 1:
                run = _record(cell, known, timeout_s)
                append_line(output, run)
                yield run
    notebook.unlink(missing_ok=True)
    notebook.with_name(notebook.name + ".lock").unlink(missing_ok=True)
    output.with_name(output.name + ".lock").unlink(missing_ok=True)


def _one_round(
    cell: Cell,
    number: int,
    known: dict[str, Progress],
    notebook: Path,
    *,
    timeout_s: float,
    tell: Tell,
    throughput: bool = False,
) -> None:
    progress = known.setdefault(cell.key, Progress())
    if len(progress.rounds) > number:
        return
    tell(f"round {number + 1}: {cell.key}")
    started, watch = datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"), Stopwatch()
    outcome = run_job(cell, static=number == 0, throughput=throughput and number == 0, timeout_s=timeout_s)
    _add(progress, _Line(key=cell.key, outcome=outcome, started=started, seconds=watch.seconds))
    append_line(notebook, _Line(key=cell.key, outcome=outcome, started=started, seconds=watch.seconds))


def _add(progress: Progress, line: _Line) -> None:
    progress.rounds.append(line.outcome)
    progress.started = progress.started or line.started
    progress.seconds += line.seconds


def _record(cell: Cell, known: dict[str, Progress], timeout_s: float) -> Run:
    progress, stick = known[cell.key], known[cell.yardstick().key]
    return bench_run(
        cell,
        progress.rounds,
        stick.rounds,
        started=progress.started,
        seconds=progress.seconds,
        timeout_s=timeout_s,
    )


def _finished(output: Path) -> set[str]:
    """Keys of the cells whose record is in `output` and did not fail."""
    found: set[str] = set()
    for raw in read_lines(output):
        if not isinstance(raw, dict) or raw.get("command") != "bench":
            raise IntegrityError(f"{output} holds something else than records of segzoo bench; give another --output")
        if raw.get("status") != "failed":
            found.add(raw["conditions"]["cell"])
    return found


def _progress(notebook: Path) -> dict[str, Progress]:
    known: dict[str, Progress] = {}
    for raw in read_lines(notebook):
        line = msgspec.convert(raw, _Line)
        _add(known.setdefault(line.key, Progress()), line)
    return known
