"""How sure a mean IoU is, or the difference of two: the bootstrap over images.

A test split is a sample of the pictures a model may meet. Images are drawn with replacement, as many as there are,
and the measure is computed anew from the sums of their areas (Efron, 1979; percentile intervals, Efron and
Tibshirani, 1993, chapter 13). Two models are compared on the same draws, so that what makes an image difficult for
both of them cancels out (the paired bootstrap; Koehn, EMNLP 2004, does so for translations).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segzoo.metrics.image_areas import ImageAreas

CONFIDENCE = 0.95
REPLICATES = 2000
_BLOCK = 500
"""Replicates that are computed together: their weights of 5000 images take 20 MB."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Bounds of a percentile interval at `CONFIDENCE`."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A second value less a first: as measured, with its interval and two-sided p value; 0..1, nan where unknown."""

    value: float
    interval: Interval
    p_value: float


def image_draws(count: int, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each image is in each replicate: blocks of float64 [replicates, images], every row adding up to N."""
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, _BLOCK):
        size = min(_BLOCK, replicates - start)
        drawn = generator.integers(count, size=(size, count))
        drawn += np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def resampled_iou(areas: ImageAreas, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU by class of each replicate: [R, K], nan for a class that is in none of its images.

    Sums of whole numbers below 2**53 are exact in float64, so that the products may run in BLAS.
    """
    intersect = weights @ areas.intersect.astype(np.float64)
    union = weights @ areas.union.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(intersect / union)


def iou_intervals(areas: ImageAreas, *, replicates: int = REPLICATES, seed: int = 0) -> tuple[Interval, list[Interval]]:
    """The 95 % intervals of the mean IoU and of each class's IoU; nan for a class without any.

    Args:
        areas: of at least two images.
        replicates: draws of images.
        seed: of the draws; the same areas give the same interval.
    """
    by_class = np.concatenate([resampled_iou(areas, weights) for weights in image_draws(len(areas), replicates, seed)])
    return _interval(_means(by_class)), [_interval(values) for values in by_class.T]


def paired_differences(
    first: ImageAreas, second: ImageAreas, *, replicates: int, seed: int = 0
) -> tuple[Difference, list[Difference]]:
    """Mean IoU of `second` less that of `first`, and the same for each class, over the same images.

    The p value is twice the smaller share of replicates on one side of no difference, each share with one
    added to both its counts (so that it is never 0), and at most 1.

    Args:
        first, second: of the same images in the same order.
        replicates: draws of images, the same for both.
        seed: of the draws.
    """
    rows, means = [], []
    for weights in image_draws(len(first), replicates, seed):
        before, after = resampled_iou(first, weights), resampled_iou(second, weights)
        rows.append(after - before)
        means.append(_means(after) - _means(before))
    by_class = np.concatenate(rows)
    measured = second.total().iou - first.total().iou
    whole = second.total().mean_iou - first.total().mean_iou
    return (
        _difference(float(whole), np.concatenate(means)),
        [_difference(float(value), values) for value, values in zip(measured, by_class.T, strict=True)],
    )


def _means(by_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the classes that have an IoU, by replicate; nan without any."""
    known = np.isfinite(by_class)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, by_class, 0.0).sum(axis=1) / known.sum(axis=1))


def _interval(values: NDArray[np.float64]) -> Interval:
    known = values[np.isfinite(values)]
    if not known.size:
        return Interval(low=float("nan"), high=float("nan"))
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [edge, 1 - edge])
    return Interval(low=float(low), high=float(high))


def _difference(value: float, replicates: NDArray[np.float64]) -> Difference:
    known = replicates[np.isfinite(replicates)]
    if not known.size:
        return Difference(value=value, interval=_interval(known), p_value=float("nan"))
    smaller = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p_value = float(min(1.0, 2 * (smaller + 1) / (known.size + 1)))
    return Difference(value=value, interval=_interval(known), p_value=p_value)
