"""Whether a model is right as often as it is sure: the expected calibration error of the predicted class.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: pixels are put into bins of
equal width by the probability of the class that was predicted (top-label), and the gaps between mean probability and
accuracy of the bins are averaged, weighted by their pixels. Every pixel that is not ignored counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def calibration_sums(
    confidence: NDArray[np.float32], prediction: NDArray[Any], label: NDArray[Any], *, ignore: int, bins: int = BINS
) -> NDArray[np.float64]:
    """The sums of one image by bin: pixels, those that were right, and their probabilities; float64 [3, bins].

    Bin i holds probabilities above i/bins up to (i+1)/bins; the first one holds 0 too.

    Args:
        confidence: probability of the predicted class [H, W], 0..1.
        prediction: class indices [H, W].
        label: class indices or the ignored value [H, W].
        ignore: the ignored value.
        bins: number of bins.
    """
    valid = label != ignore
    values = confidence[valid].astype(np.float64)
    right = (prediction == label)[valid]
    places = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.stack([np.bincount(places, weights, bins) for weights in (None, right, values)]).astype(np.float64)


def expected_calibration_error(sums: NDArray[np.float64]) -> float:
    """The error, 0..1, of added-up sums [3, bins]; nan without pixels."""
    pixels, right, confidence = sums
    if not pixels.sum():
        return float("nan")
    return float(np.abs(right - confidence).sum() / pixels.sum())


def reliability(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean probability and accuracy of each bin, [bins] each, 0..1; nan for an empty one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[2] / sums[0], sums[1] / sums[0]
