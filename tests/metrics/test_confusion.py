from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from segzoo.metrics import ConfusionMatrix, scores


def by_counting(prediction, label, classes, ignore):
    """The same counts, pixel by pixel."""
    counts = np.zeros((classes + 1, classes + 1), int)
    for predicted, labelled in zip(prediction.ravel(), label.ravel(), strict=True):
        if labelled != ignore:
            counts[min(int(labelled), classes), min(int(predicted), classes)] += 1
    return counts


@pytest.mark.parametrize("classes", [1, 2, 19, 150, 254, 255, 256, 300])
@pytest.mark.parametrize(
    ("predicted", "labelled"), [(np.uint8, np.uint8), (np.int64, np.uint8), (np.uint16, np.uint16)]
)
def test_counts_are_those_of_counting_pixel_by_pixel(classes, predicted, labelled):
    rng = np.random.default_rng(classes)
    highest = 256 if np.dtype(labelled).itemsize == 1 else classes + 2
    label = rng.integers(0, highest, (23, 37)).astype(labelled)
    prediction = rng.integers(0, min(classes + 2, 256), (23, 37)).astype(predicted)
    ignore = 255 if classes <= 255 else 65535
    matrix = ConfusionMatrix(classes, ignore=ignore)
    assert np.array_equal(matrix.update(prediction, label), by_counting(prediction, label, classes, ignore))
    assert matrix.counts.dtype == np.int64


def test_ignoring_a_class_index_leaves_its_pixels_out():
    matrix = ConfusionMatrix(2, ignore=0)
    matrix.update(np.array([[0, 1, 1]], np.uint8), np.array([[0, 0, 1]], np.uint8))
    assert matrix.counts.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_images_add_up_in_any_order_and_in_parts():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 5, (2, 6, 7)).astype(np.uint8) for _ in range(6)]
    forward, backward, first, second = (ConfusionMatrix(5) for _ in range(4))
    for prediction, label in images:
        forward.update(prediction, label)
    for prediction, label in reversed(images):
        backward.update(prediction, label)
    for number, (prediction, label) in enumerate(images):
        (first if number % 2 else second).update(prediction, label)
    first.merge(second)
    assert np.array_equal(forward.counts, backward.counts)
    assert np.array_equal(forward.counts, first.counts)
    assert forward.counts.sum() == 6 * 42


def test_memory_does_not_grow_with_the_number_of_images():
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 150, (2, 64, 64)).astype(np.uint8)
    matrix = ConfusionMatrix(150)
    matrix.update(prediction, label)
    tracemalloc.start()
    try:
        for _ in range(3):
            matrix.update(prediction, label)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            matrix.update(prediction, label)
        assert tracemalloc.get_traced_memory()[0] - before < 4096
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "differ in shape"),
        (np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), "prediction must hold integers"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), bool), "label must hold integers"),
        (np.full((2, 3), -1), np.zeros((2, 3), np.uint8), "below 0"),
    ],
)
def test_arrays_that_cannot_be_counted_are_refused(prediction, label, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3).update(prediction, label)


def test_matrices_of_different_classes_do_not_merge():
    with pytest.raises(ValueError, match="different classes"):
        ConfusionMatrix(3).merge(ConfusionMatrix(4))
    with pytest.raises(ValueError, match="at least one class"):
        ConfusionMatrix(0)


def test_scores_of_a_small_matrix_by_hand():
    # Labels: 4 of class 0 (3 found), 2 of class 1 (1 found), none of class 2, 1 beyond all classes.
    counts = np.array([[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], np.int64)
    result = scores(counts)
    assert result.iou.tolist() == [3 / 5, 1 / 3, 0.0]
    assert result.accuracy[:2].tolist() == [0.75, 0.5]
    assert math.isnan(result.accuracy[2])
    assert result.precision.tolist() == [0.75, 0.5, 0.0]
    assert result.dice.tolist() == [6 / 8, 2 / 4, 0.0]
    assert result.mean_iou == pytest.approx((3 / 5 + 1 / 3) / 3)
    assert result.mean_iou_of_labelled == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert result.mean_accuracy == 0.625
    assert result.pixel_accuracy == 4 / 6
