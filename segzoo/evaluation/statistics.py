"""What the images of an evaluation say beyond the totals: intervals, and which classes are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.evaluation.record import percent
from segzoo.metrics import read_areas
from segzoo.metrics.bootstrap import REPLICATES, iou_intervals

SEED = 0
MOST_CONFUSIONS = 20

Row = dict[str, Any]


def add_intervals(metrics: dict[str, Any], classes: list[Row], images: list[Row]) -> dict[str, Any]:
    """The metrics with the 95 % bootstrap interval of mIoU over images; those of the classes go into their rows.

    One image has no interval: its bounds are None.

    Args:
        metrics: of the whole data set.
        classes: rows of the classes; changed.
        images: rows of the images, with their "areas".
    """
    if len(images) < 2:
        return {**metrics, "miou_low_percent": None, "miou_high_percent": None}
    areas = read_areas((row["areas"] for row in images), len(classes))
    whole, by_class = iou_intervals(areas, replicates=REPLICATES, seed=SEED)
    for row, interval in zip(classes, by_class, strict=True):
        row["iou_low_percent"], row["iou_high_percent"] = percent(interval.low), percent(interval.high)
    return {**metrics, "miou_low_percent": percent(whole.low), "miou_high_percent": percent(whole.high)}


def confusions(counts: NDArray[np.int64], classes: list[str]) -> list[Row]:
    """The commonest mistakes, at most `MOST_CONFUSIONS`: label, prediction, pixels, and the share of the label's.

    Args:
        counts: a confusion matrix [K+1, K+1], see `ConfusionMatrix`.
        classes: names of the K classes.
    """
    inner = counts[:-1, :-1].copy()
    np.fill_diagonal(inner, 0)
    labelled = counts[:-1].sum(axis=1)
    flat = inner.ravel()
    order = np.argsort(-flat, kind="stable")[:MOST_CONFUSIONS]
    return [
        {
            "label": classes[place // len(classes)],
            "predicted": classes[place % len(classes)],
            "pixels": int(flat[place]),
            "of_label_percent": percent(flat[place] / labelled[place // len(classes)]),
        }
        for place in order.tolist()
        if flat[place] > 0
    ]
