"""The bootstrap against all draws that there are, against the normal distribution, and against a plain loop."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from segzoo.metrics import ImageAreas
from segzoo.metrics.bootstrap import image_draws, iou_intervals, paired_differences, resampled_iou


def areas(intersect, union):
    """Areas of images [N, K] whose predictions lie within their labels."""
    intersect, union = np.array(intersect), np.array(union)
    return ImageAreas(intersect=intersect, label_area=union, prediction_area=intersect)


def mean_iou(chosen, of):
    """Plain arithmetic: sums of the chosen images, the mean of the classes that have a union."""
    ratios = []
    for index in range(of.intersect.shape[1]):
        union = sum(int(of.union[image, index]) for image in chosen)
        if union:
            ratios.append(sum(int(of.intersect[image, index]) for image in chosen) / union)
    return sum(ratios) / len(ratios)


THREE = areas([[5, 0], [20, 30], [9, 0]], [[10, 0], [40, 40], [10, 0]])
BETTER = areas([[6, 0], [30, 20], [10, 0]], [[10, 0], [40, 40], [10, 0]])


def test_every_replicate_draws_as_many_images_as_there_are_each_alike():
    weights = np.concatenate(list(image_draws(4, 1200, seed=0)))
    assert weights.shape == (1200, 4) and (weights.sum(axis=1) == 4).all()
    assert np.allclose(weights.mean(axis=0), 1.0, atol=0.1)
    # Binomial: 4 draws of a quarter each have variance 4 * 1/4 * 3/4.
    assert np.allclose(weights.var(axis=0), 0.75, atol=0.1)
    assert np.array_equal(weights, np.concatenate(list(image_draws(4, 1200, seed=0))))
    assert not np.array_equal(weights, np.concatenate(list(image_draws(4, 1200, seed=1))))


def test_replicates_are_the_sums_of_their_images():
    draws = [(0, 0, 1), (2, 1, 0), (2, 2, 2)]
    weights = np.array([[chosen.count(image) for image in range(3)] for chosen in draws], float)
    by_class = resampled_iou(THREE, weights)
    for chosen, row in zip(draws, by_class, strict=True):
        assert np.nanmean(row) == pytest.approx(mean_iou(chosen, THREE), abs=1e-12)
    assert np.isnan(by_class[2, 1])


def test_bounds_are_those_of_all_27_draws_of_three_images():
    every = sorted(mean_iou(chosen, THREE) for chosen in itertools.product(range(3), repeat=3))
    whole, by_class = iou_intervals(THREE, replicates=4000, seed=0)
    # 2.5 % and 97.5 % of 27 equally likely draws are the first and the last.
    assert (whole.low, whole.high) == pytest.approx((every[0], every[-1]))
    # Class 1 is in one image alone: 30 of 40 whenever it is drawn.
    assert (by_class[1].low, by_class[1].high) == (0.75, 0.75)


def test_with_equal_areas_the_interval_is_that_of_a_mean():
    rng = np.random.default_rng(5)
    found = rng.integers(200, 900, (400, 1))
    whole, _ = iou_intervals(areas(found, np.full((400, 1), 1000)), replicates=4000, seed=1)
    mean, error = found.mean() / 1000, found.std(ddof=1) / 1000 / np.sqrt(400)
    assert whole.low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert whole.high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_a_paired_difference_has_the_bounds_and_p_of_all_draws():
    every = np.array([
        mean_iou(chosen, BETTER) - mean_iou(chosen, THREE) for chosen in itertools.product(range(3), repeat=3)
    ])  # fmt: skip
    whole, by_class = paired_differences(THREE, BETTER, replicates=6000, seed=0)
    assert whole.value == pytest.approx(mean_iou((0, 1, 2), BETTER) - mean_iou((0, 1, 2), THREE))
    assert (whole.interval.low, whole.interval.high) == pytest.approx((every.min(), every.max()))
    expected = 2 * min((every <= 0).mean(), (every >= 0).mean())
    assert whole.p_value == pytest.approx(expected, abs=0.03)
    assert by_class[1].value == pytest.approx(-0.25) and by_class[1].p_value < 0.001


def test_pairing_sees_a_small_gain_that_two_separate_intervals_do_not():
    rng = np.random.default_rng(0)
    found = rng.integers(100, 900, (200, 1))
    first, second = areas(found, np.full((200, 1), 1000)), areas(found + 10, np.full((200, 1), 1000))
    whole, _ = paired_differences(first, second, replicates=1000)
    assert whole.interval.low == pytest.approx(0.01) and whole.p_value == pytest.approx(2 / 1001)
    one, other = iou_intervals(first)[0], iou_intervals(second)[0]
    assert one.high > other.low


def test_the_same_model_twice_differs_in_nothing():
    whole, by_class = paired_differences(THREE, THREE, replicates=500)
    assert (whole.value, whole.interval.low, whole.interval.high, whole.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert [item.p_value for item in by_class] == [1.0, 1.0]


def test_a_class_that_is_nowhere_has_no_interval_and_changes_no_mean():
    with_nothing = areas(np.pad(THREE.intersect, ((0, 0), (0, 1))), np.pad(THREE.union, ((0, 0), (0, 1))))
    whole, by_class = iou_intervals(with_nothing, replicates=300)
    assert whole == iou_intervals(THREE, replicates=300)[0]
    assert np.isnan(by_class[2].low) and np.isnan(by_class[2].high)


def test_ade20k_takes_seconds():
    rng = np.random.default_rng(0)
    union = rng.integers(0, 5000, (2000, 150)) * (rng.random((2000, 150)) < 0.1)
    begun = time.process_time()
    iou_intervals(areas(union // 2, union), replicates=1000)
    assert time.process_time() - begun < 10
