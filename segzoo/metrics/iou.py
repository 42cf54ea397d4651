"""Intersection over union and accuracy, in float64 from integer counts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Areas in pixels and their ratios, 0..1, by class; 0/0 is nan.

    Means leave out the nans, as mmsegmentation's evaluation does: a class that is neither in the
    labels nor predicted counts in no mean; one that is predicted only has IoU 0 and no accuracy.

    Attributes:
        intersect: pixels of the class that were predicted as it, int64 [K].
        label_area: pixels of the class, int64 [K].
        prediction_area: pixels predicted as the class, int64 [K].
    """

    intersect: NDArray[np.int64]
    label_area: NDArray[np.int64]
    prediction_area: NDArray[np.int64]

    @property
    def union(self) -> NDArray[np.int64]:
        """Pixels of the class or predicted as it, int64 [K]."""
        return self.label_area + self.prediction_area - self.intersect

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union, [K]."""
        return _ratio(self.intersect, self.union)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of the class's pixels that were found (recall), [K]."""
        return _ratio(self.intersect, self.label_area)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the pixels predicted as the class that are of it, [K]."""
        return _ratio(self.intersect, self.prediction_area)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Twice the intersection over the sum of both areas, [K]."""
        return _ratio(2 * self.intersect, self.label_area + self.prediction_area)

    @property
    def mean_iou(self) -> float:
        """The mean of `iou` over the classes that have one (mIoU)."""
        return _mean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        """The mean of `accuracy` over the classes that are in the labels (mAcc)."""
        return _mean(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """The share of all labelled pixels that are right (aAcc)."""
        return float(_ratio(self.intersect.sum(), self.label_area.sum()))

    @property
    def mean_iou_of_labelled(self) -> float:
        """The mean of `iou` over the classes in the labels alone; what is usual for single images."""
        return _mean(self.iou[self.label_area > 0])


def scores(counts: NDArray[np.int64]) -> Scores:
    """The scores of a confusion matrix [K+1, K+1] (see `ConfusionMatrix`), of one image or of many."""
    inner = counts[:-1, :-1]
    return Scores(
        intersect=inner.diagonal().copy(),
        label_area=counts[:-1].sum(axis=1),
        prediction_area=counts[:, :-1].sum(axis=0),
    )


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole))


def _mean(values: NDArray[np.float64]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of nothing but nans the mean is nan.
        return float(np.nanmean(values)) if values.size else float("nan")
