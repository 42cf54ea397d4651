"""Boundary IoU and F-score against figures by hand, the authors' erosions written out, and scipy's distances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from segzoo.metrics.boundary import (
    band_width,
    boundary_areas,
    boundary_tolerance,
    contour_f,
    contour_matches,
    scores_of_boundary,
)

IGNORE = 255


def blobs(seed, classes=6, size=(61, 83)):
    """Label map of smooth patches, as segmentations have them."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(classes, *size)), (0, 5, 5))
    return noise.argmax(axis=0).astype(np.uint8)


def eroded(mask, distance):
    """The published steps: nothing but background beyond the image, then a 3 x 3 square again and again."""
    return ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)


@pytest.mark.parametrize("ratio", [0.005, 0.02, 0.1])
def test_boundary_iou_is_that_of_a_mask_and_its_erosion_for_every_class(ratio):
    prediction, label = blobs(1), blobs(1)
    prediction[20:40, 30:50] = blobs(2)[20:40, 30:50]
    areas = boundary_areas(prediction, label, num_classes=6, ignore=IGNORE, ratio=ratio)
    distance = max(1, round(ratio * np.sqrt(61**2 + 83**2)))
    assert band_width(61, 83, ratio=ratio) == distance
    for index in range(6):
        bands = [(part == index) & ~eroded(part == index, distance) for part in (prediction, label)]
        assert areas[:, index].tolist() == [(bands[0] & bands[1]).sum(), bands[1].sum(), bands[0].sum()]


def brute_force_band(classes, valid, distance):
    """Every pixel of every class with every other pixel that is in reach."""
    height, width = classes.shape
    band = np.zeros(classes.shape, bool)
    for row in range(height):
        for column in range(width):
            if not valid[row, column]:
                continue
            rows = range(row - distance, row + distance + 1)
            columns = range(column - distance, column + distance + 1)
            band[row, column] = any(
                not (0 <= r < height and 0 <= c < width) or (valid[r, c] and classes[r, c] != classes[row, column])
                for r in rows
                for c in columns
            )
    return band


def test_no_band_runs_along_ignored_pixels():
    label, prediction = blobs(3, size=(24, 31)), blobs(4, size=(24, 31))
    label[5:15, 10:22] = IGNORE
    valid = label != IGNORE
    areas = boundary_areas(prediction, label, num_classes=6, ignore=IGNORE, ratio=0.05)
    distance = band_width(24, 31, ratio=0.05)
    assert distance == 2
    bands = [brute_force_band(part, valid, distance) for part in (prediction, label)]
    for index in range(6):
        expected = [bands[0] & bands[1] & (label == index) & (prediction == index), bands[1] & (label == index),
                    bands[0] & (prediction == index)]  # fmt: skip
        assert areas[:, index].tolist() == [part.sum() for part in expected]


def test_a_class_around_an_ignored_hole_has_a_band_at_the_image_edge_alone():
    label = np.zeros((20, 20), np.uint8)
    label[8:12, 8:12] = IGNORE
    areas = boundary_areas(np.zeros_like(label), label, num_classes=2, ignore=IGNORE, ratio=0.01)
    assert areas[:, 0].tolist() == [76, 76, 76]
    assert scores_of_boundary(areas).mean_iou == 1.0


def test_a_border_that_is_off_by_two_columns_by_hand():
    # 100 x 100: the band is round(0.02 * 141.4) = 3 wide.
    label, prediction = (np.zeros((100, 100), np.uint8) for _ in range(2))
    label[:, 50:], prediction[:, 52:] = 1, 1
    areas = boundary_areas(prediction, label, num_classes=2, ignore=IGNORE)
    # Class 0 of the label: a frame of 3 around 100 x 50, open nowhere: 100 * 50 - 94 * 44.
    assert areas[1, 0] == 100 * 50 - 94 * 44 and areas[2, 0] == 100 * 52 - 94 * 46
    # Common: the outer frame's rows (6 x 50), its left columns (94 x 3), and of the inner border column 49 alone.
    assert areas[0, 0] == 6 * 50 + 94 * 3 + 94 * 1
    one = scores_of_boundary(areas)
    assert one.iou[0] == pytest.approx(676 / (864 + 876 - 676))


def contour(part, valid):
    """Pixels of a class with a valid one of another class among the eight around them, by shifting."""
    padded, ok = np.pad(part.astype(int), 1, constant_values=-1), np.pad(valid, 1)
    found = np.zeros(part.shape, bool)
    height, width = part.shape
    for row in range(3):
        for column in range(3):
            window = padded[row : row + height, column : column + width]
            found |= ok[row : row + height, column : column + width] & (window != part)
    return found & valid


@pytest.mark.parametrize(("seed", "hole"), [(0, False), (5, True)])
def test_the_f_score_is_that_of_scipys_distances(seed, hole):
    prediction, label = blobs(seed), blobs(seed)
    prediction = np.roll(prediction, 3, axis=1)
    prediction[30:, :20] = 0
    if hole:
        label[10:30, 25:60] = IGNORE
    counts = contour_matches(prediction, label, num_classes=6, ignore=IGNORE, ratio=0.03)
    tolerance = 0.03 * math.hypot(61, 83)
    assert boundary_tolerance(61, 83, ratio=0.03) == pytest.approx(tolerance)
    valid = label != IGNORE
    edges = contour(prediction, valid), contour(label, valid)
    for index in range(6):
        one, other = edges[0] & (prediction == index), edges[1] & (label == index)
        if one.any() and other.any():
            matched = (ndimage.distance_transform_edt(~other)[one] < tolerance).sum()
            found = (ndimage.distance_transform_edt(~one)[other] < tolerance).sum()
        else:
            matched = found = 0
        assert counts[:, index].tolist() == [matched, one.sum(), found, other.sum()]
        precision, recall = matched / max(one.sum(), 1), found / max(other.sum(), 1)
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert contour_f(counts)[index] == pytest.approx(expected)


def test_a_shifted_border_is_met_below_the_tolerance_and_missed_at_it():
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 1
    # The diagonal is 50: at a ratio of 0.06 the tolerance is 3 pixels, and Csurka's d < tolerance.
    for shift, score in ((2, 1.0), (3, 0.0)):
        shifted = np.zeros_like(label)
        shifted[:, 20 + shift :] = 1
        counts = contour_matches(shifted, label, num_classes=2, ignore=IGNORE, ratio=0.06)
        assert counts[1].tolist() == [30, 30] and counts[3].tolist() == [30, 30]
        assert contour_f(counts).tolist() == [score, score]


def test_a_class_on_one_side_only_scores_nothing_and_an_absent_one_is_no_number():
    label, prediction = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    label[:, 5:] = 1
    values = contour_f(contour_matches(prediction, label, num_classes=3, ignore=IGNORE))
    assert values[0] == 0.0 and values[1] == 0.0 and math.isnan(values[2])


def test_more_than_255_classes_and_a_wide_ignored_value():
    label = np.zeros((12, 12), np.uint16)
    label[:, 6:], label[0] = 299, 65535
    areas = boundary_areas(label, label, num_classes=300, ignore=65535, ratio=0.01)
    assert scores_of_boundary(areas).iou[299] == 1.0 and areas[:, 299].tolist() == [11 * 6 - 10 * 4] * 3
