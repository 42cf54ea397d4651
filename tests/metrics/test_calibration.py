from __future__ import annotations

import math

import numpy as np
import pytest

from segzoo.metrics.calibration import calibration_sums, expected_calibration_error, reliability


def test_the_error_is_that_of_two_bins_by_hand():
    confidence = np.array([[0.9, 0.8, 0.6], [0.3, 0.2, 0.99]], np.float32)
    label = np.array([[1, 1, 1], [0, 0, 255]])
    prediction = np.array([[1, 0, 1], [1, 0, 1]])
    sums = calibration_sums(confidence, prediction, label, ignore=255, bins=2)
    # Above a half: 0.9 right, 0.8 wrong, 0.6 right; below: 0.3 wrong, 0.2 right; one ignored.
    assert sums[0].tolist() == [2, 3] and sums[1].tolist() == [1, 2]
    assert sums[2] == pytest.approx([0.5, 2.3])
    assert expected_calibration_error(sums) == pytest.approx((abs(1 - 0.5) + abs(2 - 2.3)) / 5)
    means, accuracies = reliability(sums)
    assert means == pytest.approx([0.25, 2.3 / 3]) and accuracies == pytest.approx([0.5, 2 / 3])


def slow_error(confidence, right, bins):
    """The paper's formula, bin by bin."""
    error = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def test_sums_of_images_give_the_papers_formula_over_all_pixels():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.01, 1.0, (4, 20, 30)).astype(np.float32)
    label = rng.integers(0, 5, (4, 20, 30))
    prediction = np.where(rng.random(label.shape) < confidence**2, label, 7)
    sums = sum(calibration_sums(c, p, t, ignore=255) for c, p, t in zip(confidence, prediction, label, strict=True))
    expected = slow_error(confidence.astype(float).ravel(), (prediction == label).ravel(), 15)
    assert expected > 0.05
    assert expected_calibration_error(sums) == pytest.approx(expected, abs=1e-12)


def test_a_model_that_is_as_sure_as_it_is_right_has_no_error_and_bounds_belong_to_the_lower_bin():
    confidence = np.full((10, 10), 0.6, np.float32)
    label = np.zeros((10, 10), np.uint8)
    prediction = np.where(np.arange(100).reshape(10, 10) < 60, 0, 1)
    sums = calibration_sums(confidence, prediction, label, ignore=255)
    assert expected_calibration_error(sums) == pytest.approx(0.0, abs=1e-6)
    sums = calibration_sums(np.array([[1.0, 0.0, 0.5]], np.float32), label[:1, :3], label[:1, :3], ignore=255, bins=2)
    assert sums[0].tolist() == [2, 1]


def test_without_labelled_pixels_there_is_no_error():
    ignored = np.full((3, 3), 255)
    sums = calibration_sums(np.ones((3, 3), np.float32), ignored * 0, ignored, ignore=255)
    assert math.isnan(expected_calibration_error(sums))
