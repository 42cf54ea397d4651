"""The counts and ratios that the published tool chain gives, case by case."""

from __future__ import annotations

import json

import numpy as np
import pytest
from oracle_files import oracle

from segzoo.data.policy import LabelTable
from segzoo.metrics import ConfusionMatrix, scores
from segzoo.zoo.schema import LabelPolicy

FACTS = json.loads(oracle("metric/cases.json").read_text())
CASES = {case["name"]: case for case in FACTS["cases"]}


def evaluation_label(values, case):
    """What the evaluation compares with: mmsegmentation's reduce_zero_label on bytes, where the case has it."""
    label = np.array(values, np.uint8)
    if not case["reduce_zero_label"]:
        return label
    reduced = np.where(label == 0, 255, label.astype(int) - 1)
    return np.where(reduced == 254, 255, reduced).astype(np.uint8)


def accumulated(case, dtype):
    matrix = ConfusionMatrix(case["num_classes"], ignore=case["ignore_index"])
    for image in case["images"]:
        of_image = scores(matrix.update(np.array(image["pred"], dtype), evaluation_label(image["label"], case)))
        for ours, theirs in (
            (of_image.intersect, image["intersect"]),
            (of_image.union, image["union"]),
            (of_image.prediction_area, image["pred_area"]),
            (of_image.label_area, image["label_area"]),
        ):
            assert ours.tolist() == theirs
    return scores(matrix.counts)


def numbers(values):
    return np.array([np.nan if value is None else value for value in values], float)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("name", list(CASES))
def test_counts_and_ratios_are_those_of_the_published_tool_chain(name, dtype):
    case = CASES[name]
    ours = accumulated(case, dtype)
    expected = case["metrics"]
    by_name = {
        "IoU": ours.iou,
        "Acc": ours.accuracy,
        "Dice": ours.dice,
        "Precision": ours.precision,
        "Recall": ours.accuracy,
        "aAcc": np.array([ours.pixel_accuracy]),
    }
    compared = set(expected) - {"Fscore"}  # The harmonic mean of precision and recall, that is, Dice.
    assert compared
    for metric in compared:
        theirs = numbers(np.atleast_1d(expected[metric]).tolist())
        mine = by_name[metric]
        if case["nan_to_num"] is not None and metric != "aAcc":
            mine = np.nan_to_num(mine, nan=case["nan_to_num"])
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, err_msg=metric)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "evaluate" in case])
def test_means_round_to_the_printed_figures(name):
    ours, printed = accumulated(CASES[name], np.uint8), CASES[name]["evaluate"]
    for mean, metric in ((ours.mean_iou, "mIoU"), (ours.mean_accuracy, "mAcc"), (ours.pixel_accuracy, "aAcc")):
        if printed[metric] is None:
            assert np.isnan(mean)
        else:
            # Printed figures are rounded to 1e-4; float32 may round a tie the other way.
            assert abs(mean - printed[metric]) <= 0.5e-4 + 1e-7, metric


@pytest.mark.parametrize("case", FACTS["float32_accumulation"], ids=lambda case: str(case["images"]))
def test_sums_over_many_images_are_exact_where_float32_sums_are_not(case):
    """The recorded areas as a confusion matrix: what a class misses goes to the others' column and row."""
    areas = {key: np.array(values, np.int64) for key, values in case["per_image"].items()}
    classes = len(areas["intersect"])
    of_image = np.zeros((classes + 1, classes + 1), np.int64)
    of_image[range(classes), range(classes)] = areas["intersect"]
    of_image[:-1, -1] = areas["label_area"] - areas["intersect"]
    of_image[-1, :-1] = areas["pred_area"] - areas["intersect"]
    total = scores(of_image * case["images"])
    assert total.intersect.tolist() == (areas["intersect"] * case["images"]).tolist()
    np.testing.assert_allclose(total.iou, case["float64_metrics"]["IoU"], rtol=1e-15)
    np.testing.assert_allclose(total.accuracy, case["float64_metrics"]["Acc"], rtol=1e-15)
    assert total.pixel_accuracy == pytest.approx(case["float64_metrics"]["aAcc"], rel=1e-15)
    assert abs(total.pixel_accuracy - case["float32_metrics"]["aAcc"]) > 1e-6


def test_a_policy_does_what_reducing_the_zero_label_did():
    policy = LabelTable(LabelPolicy(first=1, ignore=(0, 255)), 150)
    values = np.arange(151, dtype=np.uint8).reshape(1, -1)
    case = {"reduce_zero_label": True}
    assert policy.apply(values, "a.png").tolist() == evaluation_label(values, case).tolist()
