"""The files of `segzoo eval --analysis DIR`: tables by class and image, confusion matrix, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.data.write import write_picture
from segzoo.evaluation.record import percent
from segzoo.metrics import read_areas
from segzoo.report.confusion_picture import confusion_picture
from segzoo.results import Run, write_text_atomically

_TEXT_COLUMNS = ("areas",)
"""Columns of an image's row that are there to be computed from, not to be read."""


def write_analysis(folder: Path, run: Run, counts: NDArray[np.int64]) -> list[Path]:
    """Writes the tables and pictures of one evaluation and returns their paths.

    `per_class.csv`, `per_image.csv`, `iou_by_image_and_class.csv` (percent; empty where an image has neither
    label nor prediction of a class), `confusion.csv` (pixels; labels down, predictions across) and
    `confusion.png`. Numbers are unrounded.

    Args:
        folder: made where it is missing.
        run: the record, with its breakdown by class and image.
        counts: its confusion matrix [K+1, K+1].

    Raises:
        SegzooError: a file cannot be written.
    """
    classes = [row["class"] for row in run.breakdown["class"]]
    images = run.breakdown["image"]
    tables: dict[str, Iterable[Iterable[Any]]] = {
        "per_class.csv": _rows(run.breakdown["class"]),
        "per_image.csv": _rows(images),
        "iou_by_image_and_class.csv": _iou_rows(images, classes),
        "confusion.csv": _confusion_rows(counts[:-1, :-1], classes),
    }
    for name, rows in tables.items():
        write_text_atomically(folder / name, _csv(rows))
    title = f"{run.model['name']} on {run.conditions['dataset']} {run.conditions['split']}"
    write_picture(folder / "confusion.png", confusion_picture(counts[:-1, :-1], classes, title=title))
    return [*(folder / name for name in tables), folder / "confusion.png"]


def _rows(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Keys and values of a breakdown."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _TEXT_COLUMNS]
    return [keys, *([row.get(key) for key in keys] for row in rows)]


def _iou_rows(images: list[dict[str, Any]], classes: list[str]) -> Iterable[list[Any]]:
    """A row an image, a column a class."""
    yield ["image", *classes]
    areas = read_areas((row["areas"] for row in images), len(classes))
    for index, row in enumerate(images):
        yield [row["image"], *(percent(value) for value in areas.of_image(index).iou)]


def _confusion_rows(counts: NDArray[np.int64], classes: list[str]) -> Iterable[list[Any]]:
    yield ["label", *classes]
    for name, row in zip(classes, counts.tolist(), strict=True):
        yield [name, *row]


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
