"""What is counted in an image beside the confusion matrix, where it is asked for: borders and calibration.

Everything that is counted in an image is arrays that are added up over the images, in their order; so images may be
counted by several processes, and kept and taken up again, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.evaluation.record import percent
from segzoo.metrics.boundary import (
    DILATION_RATIO,
    TOLERANCE_RATIO,
    boundary_areas,
    contour_f,
    contour_matches,
    scores_of_boundary,
)
from segzoo.metrics.calibration import BINS, calibration_sums, expected_calibration_error, reliability

MEASURES = {"boundary": "boundary_dilation_ratio", "calibration": "calibration_bins"}
"""Measures that may be asked for, each with a condition that only records with it have."""

Row = dict[str, Any]
Counts = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Which measures are taken beside mIoU.

    Attributes:
        boundary: Boundary IoU and boundary F-score.
        calibration: expected calibration error; needs the probability of every prediction.
    """

    num_classes: int
    ignore: int
    boundary: bool = False
    calibration: bool = False

    def of_image(
        self, prediction: NDArray[Any], label: NDArray[Any], confidence: NDArray[Any] | None
    ) -> dict[str, NDArray[Any]]:
        """The arrays of one image: "boundary" [3, K], "boundary_f" [2, K] (score, images with one), "calibration".

        Args:
            prediction: class indices [H, W].
            label: class indices or the ignored value [H, W].
            confidence: probability of the predicted classes [H, W]; wanted with `calibration` only.
        """
        found: dict[str, NDArray[Any]] = {}
        classes = {"num_classes": self.num_classes, "ignore": self.ignore}
        if self.boundary:
            found["boundary"] = boundary_areas(prediction, label, **classes)
            values = contour_f(contour_matches(prediction, label, **classes))
            known = np.isfinite(values)
            found["boundary_f"] = np.stack([np.where(known, values, 0.0), known])
        if self.calibration and confidence is not None:
            found["calibration"] = calibration_sums(confidence, prediction, label, ignore=self.ignore)
        return found

    def conditions(self) -> dict[str, Any]:
        """What would change the measures."""
        boundary = {"boundary_dilation_ratio": DILATION_RATIO, "boundary_tolerance_ratio": TOLERANCE_RATIO}
        return {**(boundary if self.boundary else {}), **({"calibration_bins": BINS} if self.calibration else {})}


def add_counts(sums: dict[str, NDArray[Any]], counts: Counts) -> None:
    """Adds an image's arrays to the sums, in place."""
    for name, values in counts.items():
        sums[name] = sums[name] + values if name in sums else values


def image_measures(counts: Counts) -> Row:
    """An image's measures for its row of the record."""
    row: Row = {}
    if "boundary" in counts:
        row["boundary_miou_percent"] = percent(scores_of_boundary(counts["boundary"]).mean_iou)
        row["boundary_f_percent"] = _mean_f(counts["boundary_f"])
    if "calibration" in counts:
        row["ece_percent"] = percent(expected_calibration_error(counts["calibration"]))
    return row


def total_measures(sums: Counts, images: Sequence[Row]) -> Row:
    """The measures of the whole data set.

    Boundary IoU and calibration are those of all pixels together, the boundary F-score is the mean over the
    images, each with the mean over its classes (Csurka et al.).
    """
    row = image_measures(sums)
    if "boundary_f" in sums:
        known = [item["boundary_f_percent"] for item in images if item["boundary_f_percent"] is not None]
        row["boundary_f_percent"] = sum(known) / len(known) if known else None
    return row


def add_class_measures(classes: Sequence[Row], sums: Counts) -> None:
    """Writes Boundary IoU and the mean boundary F-score over the images with the class into the classes' rows."""
    if "boundary" not in sums:
        return
    ious = scores_of_boundary(sums["boundary"]).iou
    with np.errstate(invalid="ignore"):
        means = sums["boundary_f"][0] / sums["boundary_f"][1]
    for row, iou, mean in zip(classes, ious, means, strict=True):
        row["boundary_iou_percent"], row["boundary_f_percent"] = percent(iou), percent(mean)


def calibration_rows(sums: Counts) -> list[Row]:
    """A row for each bin of probability: bounds, pixels, mean probability and accuracy, in percent."""
    if "calibration" not in sums:
        return []
    pixels = sums["calibration"][0]
    means, accuracies = reliability(sums["calibration"])
    return [
        {
            "from_percent": 100.0 * index / len(pixels),
            "to_percent": 100.0 * (index + 1) / len(pixels),
            "pixels": int(pixels[index]),
            "confidence_percent": percent(means[index]),
            "accuracy_percent": percent(accuracies[index]),
        }
        for index in range(len(pixels))
    ]


def _mean_f(values: NDArray[np.float64]) -> float | None:
    """The mean F-score of an image's classes."""
    return percent(values[0].sum() / values[1].sum()) if values[1].any() else None
