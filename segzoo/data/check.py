"""Reads every pair of a data set once: counts its classes and lists all that an evaluation would stop at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from segzoo.data.dataset import Dataset, read_pair
from segzoo.data.policy import ignore_value
from segzoo.errors import DatasetError
from segzoo.results import Run, Stopwatch, command_line, environment

Progress = Callable[[Iterable[int], int], Iterable[int]]


def check_dataset(dataset: Dataset, *, limit: int | None = None, progress: Progress | None = None) -> Run:
    """A record of a data set: pixels and images of every class, and every pair that cannot be used.

    Args:
        dataset: what to read.
        limit: only the first pairs; the record is then partial.
        progress: wraps the indices, given with their number, to show how far it is.
    """
    watch = Stopwatch()
    count = len(dataset) if limit is None else min(limit, len(dataset))
    ignored, classes = ignore_value(dataset.num_classes), dataset.num_classes
    pixels, images = np.zeros(ignored + 1, np.int64), np.zeros(ignored + 1, np.int64)
    problems: list[dict[str, Any]] = []
    for index in range(count) if progress is None else progress(range(count), count):
        try:
            label = read_pair(dataset, index).label
        except DatasetError as error:
            problems.append({"image": dataset.image_name(index), "problem": str(error)})
            continue
        of_label = np.bincount(label.ravel(), minlength=ignored + 1)
        pixels += of_label
        images += of_label > 0
    return Run(
        command="data check",
        model={"name": dataset.name},
        metrics={
            "images": count,
            "problems": len(problems),
            "pixels": int(pixels[:classes].sum()),
            "ignored_pixels": int(pixels[ignored]),
            "classes_present": int((pixels[:classes] > 0).sum()),
        },
        conditions={"split": dataset.split, "classes": classes, "data_fingerprint": dataset.fingerprint()},
        breakdown={
            "class": [
                {"class": name, "pixels": int(pixels[index]), "images": int(images[index])}
                for index, name in enumerate(dataset.classes)
            ],
            "problem": problems,
        },
        notes=[] if count == len(dataset) else [f"partial: the first {count} of {len(dataset)} images"],
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="ok" if count == len(dataset) else "partial",
    )


def raise_problems(run: Run) -> None:
    """Ends a check with the first problem it found.

    Raises:
        DatasetError: there is one.
    """
    problems = run.breakdown["problem"]
    if problems:
        more = f" (and {len(problems) - 1} more, listed above)" if len(problems) > 1 else ""
        raise DatasetError(problems[0]["problem"] + more)
