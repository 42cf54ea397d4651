"""Label maps that real networks gave for real pictures, with the figures in their authors' logs."""

from __future__ import annotations

import csv

import pytest
from oracle_files import SHARED, shared_data

from segzoo.data import ignore_value
from segzoo.data.policy import LabelTable
from segzoo.data.read import read_label
from segzoo.metrics import ConfusionMatrix, scores
from segzoo.registry import dataset_entry

TABLE = SHARED / "data/ade20k-predictions/scores.csv"


def rows():
    return list(csv.DictReader(TABLE.read_text().splitlines())) if TABLE.exists() else []


@pytest.mark.parametrize("row", rows() or [None], ids=lambda row: row and f"{row['image']}-{row['prediction']}")
def test_published_pixel_accuracy_and_mean_iou_come_out(row):
    if row is None:
        pytest.skip("needs ../shared/data/ade20k-predictions, which is not here")
    label_file = shared_data(f"ADEChallengeData2016/annotations/validation/{row['image']}.png")
    prediction_file = shared_data(f"ade20k-predictions/{row['image']}.{row['prediction']}.png")
    entry = dataset_entry("ade20k")
    table, classes = LabelTable(entry.labels, len(entry.classes)), len(entry.classes)
    matrix = ConfusionMatrix(classes, ignore=ignore_value(classes))
    # Predictions are stored like labels, 1..150.
    prediction = table.apply(read_label(prediction_file), str(prediction_file))
    matrix.update(prediction, table.apply(read_label(label_file), str(label_file)))
    result = scores(matrix.counts)
    assert result.pixel_accuracy == pytest.approx(float(row["pixel_accuracy"]), abs=5e-7)
    assert result.mean_iou_of_labelled == pytest.approx(float(row["mean_iou_over_gt_classes"]), abs=5e-7)
