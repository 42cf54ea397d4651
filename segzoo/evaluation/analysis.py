"""The files of `segzoo eval --analysis DIR`: tables by class and image, confusion matrix, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.data import Dataset, Pair, ignore_value
from segzoo.data.dataset import read_pair
from segzoo.data.write import write_picture
from segzoo.evaluation.record import percent
from segzoo.metrics import read_areas
from segzoo.report.confusion_picture import confusion_picture
from segzoo.report.gallery import Shown, gallery
from segzoo.report.palette import class_colours
from segzoo.report.reliability_picture import reliability_picture
from segzoo.results import Run, write_text_atomically

WORST_IMAGES = 12
_TEXT_COLUMNS = ("areas",)
"""Columns of an image's row that are there to be computed from, not to be read."""


def write_analysis(
    folder: Path, run: Run, counts: NDArray[np.int64], dataset: Dataset, predict: Callable[[Pair], NDArray[Any]]
) -> list[Path]:
    """Writes the tables and pictures of one evaluation and returns their paths.

    `per_class.csv`, `per_image.csv`, `iou_by_image_and_class.csv` (percent; empty where an image has neither
    label nor prediction of a class), `confusion.csv` (pixels; labels down, predictions across) and
    `confusion.png`, `calibration.csv` and `reliability.png`, and `worst.html`, the images with the lowest mean
    IoU over the classes of their labels. Numbers are unrounded.

    Args:
        folder: made where it is missing.
        run: the record, with its breakdown by class, image and bin of probability.
        counts: its confusion matrix [K+1, K+1].
        dataset: to read the worst images from once more.
        predict: class indices of a pair; the worst images are predicted again rather than all kept.

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
        "calibration.csv": _rows(run.breakdown["calibration"]),
    }
    for name, rows in tables.items():
        write_text_atomically(folder / name, _csv(rows))
    title = f"{run.model['name']} on {run.conditions['dataset']} {run.conditions['split']}"
    pictures = {
        "confusion.png": confusion_picture(counts[:-1, :-1], classes, title=title),
        "reliability.png": reliability_picture(
            run.breakdown["calibration"], error_percent=run.metrics["ece_percent"], title=title
        ),
    }
    for name, picture in pictures.items():
        write_picture(folder / name, picture)
    write_text_atomically(folder / "worst.html", _worst(images, dataset, predict, title))
    return [folder / name for name in (*tables, *pictures, "worst.html")]


def _worst(images: list[dict[str, Any]], dataset: Dataset, predict: Callable[[Pair], NDArray[Any]], title: str) -> str:
    """The page of the worst images; they are read and predicted one at a time."""
    scored = [index for index, row in enumerate(images) if row["labelled_miou_percent"] is not None]
    chosen = sorted(scored, key=lambda index: images[index]["labelled_miou_percent"])[:WORST_IMAGES]

    def shown() -> Iterator[Shown]:
        for place, index in enumerate(chosen, 1):
            pair, row = read_pair(dataset, index), images[index]
            caption = (
                f"{place} of {len(images)}: mIoU over the label's classes {row['labelled_miou_percent']:.2f} %, "
                f"accuracy {row['accuracy_percent']:.2f} %"
            )
            yield Shown(name=pair.name, caption=caption, image=pair.image, label=pair.label, prediction=predict(pair))

    return gallery(
        shown(),
        title=f"Worst images: {title}",
        words=f"The {len(chosen)} images with the lowest mean IoU over the classes of their own labels.",
        classes=dataset.classes,
        colours=class_colours(dataset.num_classes, dataset.palette),
        ignore=ignore_value(dataset.num_classes),
    )


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
