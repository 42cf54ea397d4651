"""One of several processes that evaluate together: `python share_worker.py DATA BROKEN OUTPUT`, as torchrun starts it.

With "dying" in the place of BROKEN the second process dies of its first image.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from colour_model import AS_STORED, ColourModel

from segzoo.data import Dataset, open_dataset
from segzoo.errors import SegzooError
from segzoo.evaluation import evaluate
from segzoo.processes.group import Group, joined

LIMITS = (7, 1, 5)


def main(folder: str, broken: str, output: str) -> None:
    """Three evaluations by one group; the first process writes the records and which process had which images."""
    with joined("cpu") as group:
        had: list[list[str]] = [[] for _ in LIMITS]
        runs = [one(open_dataset(folder), limit, group, names) for limit, names in zip(LIMITS, had, strict=True)]
        shares = group.gather(had)
        errors = group.gather(error_of(open_dataset(broken), group))
    if group.main:
        content = {"runs": [json.loads(run.to_json()) for run in runs], "shares": shares, "errors": errors}
        Path(output).write_text(json.dumps(content))


def one(dataset: Dataset, limit: int, group: Group, names: list[str]):
    """The record; `names` gets the images of this process."""

    def noting(pairs, _):
        for pair in pairs:
            names.append(pair.name)
            yield pair

    words = {"boundary": True, "calibration": True, "limit": limit}
    return evaluate(ColourModel(3), dataset, AS_STORED, group=group, progress=noting, **words)


def error_of(dataset: Dataset, group: Group) -> str:
    """What this process says of a data set in which one image is broken."""
    try:
        evaluate(ColourModel(3), dataset, AS_STORED, group=group)
    except SegzooError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def dying(folder: str, output: str) -> None:
    """The second process is killed; the first writes what it has to say about it."""

    def killed(pairs, _):
        for pair in pairs:
            if os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            yield pair

    try:
        with joined("cpu") as group:
            evaluate(ColourModel(3), open_dataset(folder), AS_STORED, group=group, progress=killed)
    except SegzooError as error:
        Path(output).write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    if sys.argv[2] == "dying":
        dying(sys.argv[1], sys.argv[3])
    else:
        main(*sys.argv[1:])
