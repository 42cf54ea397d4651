"""Counts of the images of an evaluation -> metrics and breakdown of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from segzoo.evaluation.measures import add_class_measures, calibration_rows, total_measures
from segzoo.evaluation.record import class_rows, totals
from segzoo.evaluation.statistics import add_intervals, confusions
from segzoo.metrics import scores

Row = dict[str, Any]


def summed_up(
    classes: list[str], sums: Mapping[str, NDArray[Any]], images: list[Row]
) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """The metrics of the whole data set, and the rows by class, image, confusion and bin of probability.

    Args:
        classes: names of the K classes.
        sums: arrays by measure, added up over the images; "confusion" [K+1, K+1] among them.
        images: rows of the images.
    """
    of_all = scores(sums["confusion"])
    rows = class_rows(classes, of_all)
    metrics = add_intervals(totals(of_all), rows, images)
    add_class_measures(rows, sums)
    bins = calibration_rows(sums)
    breakdown = {
        "class": rows,
        "image": images,
        "confusion": confusions(sums["confusion"], classes),
        **({"calibration": bins} if bins else {}),
    }
    return {**metrics, **total_measures(sums, images), "images": len(images)}, breakdown
