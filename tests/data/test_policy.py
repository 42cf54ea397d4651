from __future__ import annotations

import numpy as np
import pytest

from segzoo.data.policy import LabelTable, ignore_value
from segzoo.errors import DatasetError, UsageError
from segzoo.zoo.schema import LabelPolicy


def test_an_offset_moves_values_and_ignored_ones_become_255():
    table = LabelTable(LabelPolicy(first=1, ignore=(0, 255)), 150)
    label = table.apply(np.array([[0, 1, 2], [150, 255, 77]], np.uint8), "a.png")
    assert label.dtype == np.uint8
    assert label.tolist() == [[255, 0, 1], [149, 255, 76]]


def test_a_mapping_names_the_class_of_each_value():
    table = LabelTable(LabelPolicy(mapping={7: 0, 8: 1, 11: 2, 26: 1}, ignore=(0, 1, 200)), 3)
    label = table.apply(np.array([[7, 8, 11, 26, 0, 200]], np.uint8), "a.png")
    assert label.tolist() == [[0, 1, 2, 1, 255, 255]]


def test_an_ignored_value_is_no_class_even_inside_the_range():
    table = LabelTable(LabelPolicy(first=0, ignore=(1,)), 3)
    assert table.apply(np.array([[0, 1, 2]], np.uint8), "a.png").tolist() == [[0, 255, 2]]


def test_255_classes_use_every_byte_but_the_ignored_one():
    table = LabelTable(LabelPolicy(), 255)
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(table.apply(values, "a.png"), values)


def test_more_than_255_classes_are_sixteen_bits_with_an_ignored_value_of_their_own():
    table = LabelTable(LabelPolicy(first=1, ignore=(0,)), 300)
    label = table.apply(np.array([[0, 1, 256, 300]], np.uint16), "a.png")
    assert label.dtype == np.uint16
    assert label.tolist() == [[65535, 0, 255, 299]]
    assert (ignore_value(255), ignore_value(256)) == (255, 65535)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[3, 12, 12], [11, 0, 77]], np.uint8), r"labels/x\.png has the value 12 in 2 pixels, 77 in 1 pixels"),
        (np.array([[300, 1]], np.uint16), "value 300 in 1 pixels"),
        (np.array([[-4, 1]], np.int32), "value -4 in 1 pixels"),
        (np.arange(20, 30, dtype=np.uint8).reshape(2, 5), "24 in 1 pixels and 5 more values"),
    ],
)
def test_values_outside_the_policy_are_an_error_that_names_file_value_and_count(values, message):
    table = LabelTable(LabelPolicy(ignore=(11, 255)), 11)
    with pytest.raises(DatasetError, match=message) as error:
        table.apply(values, "labels/x.png")
    assert "classes 0 to 10, ignored: 11, 255" in str(error.value)


@pytest.mark.parametrize(
    "policy",
    [LabelPolicy(mapping={0: 3}), LabelPolicy(mapping={-1: 0}), LabelPolicy(mapping={70000: 0}), LabelPolicy(first=-2)],
)
def test_a_policy_that_cannot_be_is_refused(policy):
    with pytest.raises(UsageError, match="the label policy names"):
        LabelTable(policy, 3)


def test_an_empty_label_stays_empty():
    assert LabelTable(LabelPolicy(), 2).apply(np.zeros((0, 4), np.uint8), "a.png").shape == (0, 4)
