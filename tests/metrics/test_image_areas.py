from __future__ import annotations

import numpy as np
import pytest

from segzoo.metrics import ConfusionMatrix, read_areas, scores, write_areas


def counted(prediction, label, classes=4):
    return scores(ConfusionMatrix(classes).update(np.array(prediction), np.array(label)))


def test_the_text_has_the_classes_of_an_image_with_intersection_label_and_prediction():
    one = counted([[0, 0, 2], [3, 3, 0]], [[0, 0, 0], [3, 255, 3]])
    # Class 0: label 3, predicted 3 (one on a pixel of class 3), both on 2. Class 2: predicted once. Class 3: 2, 1, 1.
    assert write_areas(one) == "0:2/3/3 2:0/0/1 3:1/2/1"


def test_areas_come_back_from_their_text_and_add_up_to_the_whole():
    rng = np.random.default_rng(3)
    whole = ConfusionMatrix(7)
    singles = []
    for _ in range(5):
        label = rng.integers(0, 7, (9, 11))
        label[rng.random(label.shape) < 0.2] = 255
        singles.append(scores(whole.update(rng.integers(0, 7, (9, 11)), label)))
    areas = read_areas([write_areas(one) for one in singles], 7)
    assert len(areas) == 5
    for index, one in enumerate(singles):
        assert np.array_equal(areas.of_image(index).iou, one.iou, equal_nan=True)
    total = scores(whole.counts)
    assert np.array_equal(areas.total().intersect, total.intersect)
    assert np.array_equal(areas.total().union, total.union)
    assert np.array_equal(areas.chosen(np.array([3, 0])).union, areas.union[[3, 0]])


def test_an_image_without_labelled_pixels_has_an_empty_text_and_no_areas():
    empty = counted([[1, 2]], [[255, 255]])
    assert write_areas(empty) == ""
    assert not read_areas([""], 4).union.any()
    assert len(read_areas([], 4)) == 0


@pytest.mark.parametrize("text", ["4:1/2/3", "0:1/2", "0-1/2/3", "x:1/2/3", "0:1/2/y", "-1:1/2/3"])
def test_a_damaged_text_is_refused(text):
    with pytest.raises(ValueError):
        read_areas([text], 4)
