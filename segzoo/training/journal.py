"""What a training tells: a bar on the terminal, JSON lines in log.jsonl, and TensorBoard's events where wanted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segzoo.errors import SegzooError, UnavailableError
from segzoo.results import write_text_atomically

LOG = "log.jsonl"


class Journal:
    """The voice of a run; a silent one (`speaks` False) belongs to every process but the first.

    Args:
        work_dir: where log.jsonl lies.
        iterations: of the whole run, for the bar.
        start: iterations that are done already; lines of the log after them are taken back.
        bar: show a bar, if stderr is a terminal.
        tensorboard: write events into work_dir/tensorboard too.
        speaks: False writes nothing at all.
        quiet: no sentences.
        score: what lines of an evaluation have.

    Raises:
        UnavailableError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        iterations: int,
        start: int,
        bar: bool,
        tensorboard: bool,
        speaks: bool,
        quiet: bool = False,
        score: str = "miou_percent",
    ) -> None:
        self.path = work_dir / LOG
        self.speaks, self.quiet = speaks, quiet
        self._events = _events(work_dir / "tensorboard", start) if tensorboard and speaks else None
        self._bar = tqdm(
            total=iterations,
            initial=start,
            unit="it",
            file=sys.stderr,
            disable=None if bar and speaks else True,
            dynamic_ncols=True,
        )
        if speaks:
            # An evaluation at `start` is done again.
            kept = [line for line in read_log(self.path) if line["iteration"] <= start - (score in line)]
            write_text_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def step(self, iteration: int, loss: float, rate: float, images_per_second: float) -> None:
        """Moves the bar to `iteration`; its ETA is tqdm's own."""
        self._bar.set_postfix_str(f"loss {loss:.4f}, lr {rate:.3g}, {images_per_second:.1f} images/s", refresh=False)
        self._bar.update(iteration - self._bar.n)

    def write(self, iteration: int, **numbers: Any) -> None:
        """A line of the log, and its numbers as events.

        Raises:
            SegzooError: the log cannot be written.
        """
        if not self.speaks:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, **numbers}) + "\n")
        except OSError as error:
            raise SegzooError(f"cannot write {self.path}: {error.strerror}") from error
        if self._events is not None:
            for name, value in numbers.items():
                if isinstance(value, int | float):
                    self._events.add_scalar(name, value, iteration)

    def say(self, message: str) -> None:
        """A sentence on stderr, above the bar."""
        if self.speaks and not self.quiet:
            tqdm.write(message, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar and the events."""
        self._bar.close()
        if self._events is not None:
            self._events.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut off is left out, and no file is an empty log."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def column(lines: Iterable[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """(iterations, values) of the lines that have a number `name`."""
    rows = [(line["iteration"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
    return [iteration for iteration, _ in rows], [value for _, value in rows]


def _events(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UnavailableError("--tensorboard needs it: pip install 'segzoo[tensorboard]'") from error
    # What an interrupted run had written beyond its checkpoint is taken back.
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
