"""The files of an analysis, on images that were counted by hand."""

from __future__ import annotations

import base64
import csv
import io
import math
import re

import numpy as np
import pytest
import torch
from colour_model import AS_STORED, ColourModel, write, write_set
from PIL import Image

from segzoo.data import open_dataset
from segzoo.errors import SegzooError
from segzoo.evaluation import evaluate
from segzoo.inference import predict
from segzoo.metrics import read_areas
from segzoo.metrics.boundary import boundary_areas, contour_f, contour_matches
from segzoo.report.reliability_picture import reliability_picture


@pytest.fixture
def two_images(tmp_path):
    """Image a: class 0 3 of 4, class 1 1 of 2. Image b: class 0 1 of 2, class 1 2 of 4, class 2 0 of 1."""
    write(tmp_path, "a", np.array([[0, 0, 0], [0, 1, 1]]), np.array([[0, 0, 0], [255, 1, 0]]))
    write(tmp_path, "deep/b", np.array([[1, 1, 0], [2, 0, 1]]), np.array([[1, 1, 0], [1, 1, 255]]))
    (tmp_path / "classes.txt").write_text("zero\none\ntwo\nthree\n")
    return open_dataset(tmp_path)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_tables_hold_what_was_counted(two_images, tmp_path):
    folder = tmp_path / "out" / "analysis"
    run = evaluate(ColourModel(4), two_images, AS_STORED, analysis=folder)
    confusion = rows_of(folder / "confusion.csv")
    assert confusion[0] == ["label", "zero", "one", "two", "three"]
    # Class 1: 3 right, 1 seen as 0, 1 as 2; class 0: 4 right, 1 seen as 1.
    assert confusion[1:] == [["zero", "4", "1", "0", "0"], ["one", "1", "3", "1", "0"], ["two", *"0000"],
                             ["three", *"0000"]]  # fmt: skip
    table = rows_of(folder / "iou_by_image_and_class.csv")
    assert table[0] == ["image", "zero", "one", "two", "three"]
    assert table[1] == ["a", "75.0", "50.0", "", ""]
    assert table[2] == ["deep/b", "50.0", "50.0", "0.0", ""]
    images = rows_of(folder / "per_image.csv")
    assert images[0][:2] == ["image", "miou_percent"] and images[1][0] == "a"
    assert float(images[1][1]) == run.breakdown["image"][0]["miou_percent"]
    classes = rows_of(folder / "per_class.csv")
    assert [row[0] for row in classes[1:]] == ["zero", "one", "two", "three"]
    assert float(classes[1][1]) == pytest.approx(100 * 4 / 6)
    with Image.open(folder / "confusion.png") as picture:
        assert min(picture.size) > 100


def test_the_record_holds_areas_intervals_and_the_commonest_mistakes(two_images):
    run = evaluate(ColourModel(4), two_images, AS_STORED)
    areas = read_areas((row["areas"] for row in run.breakdown["image"]), 4)
    assert 100 * areas.total().mean_iou == pytest.approx(run.metrics["miou_percent"])
    # Two images: both alike, or each with itself. The bounds are those of a alone and of b alone.
    assert run.metrics["miou_low_percent"] == pytest.approx(100 * (1 / 2 + 2 / 4 + 0) / 3)
    assert run.metrics["miou_high_percent"] == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert (run.breakdown["class"][0]["iou_low_percent"], run.breakdown["class"][0]["iou_high_percent"]) == (50.0, 75.0)
    assert [(row["label"], row["predicted"], row["pixels"]) for row in run.breakdown["confusion"]] == [
        ("zero", "one", 1),
        ("one", "zero", 1),
        ("one", "two", 1),
    ]
    assert run.breakdown["confusion"][1]["of_label_percent"] == pytest.approx(20.0)


def test_one_image_has_no_interval(two_images):
    run = evaluate(ColourModel(4), two_images, AS_STORED, limit=1)
    assert run.metrics["miou_low_percent"] is None and run.metrics["miou_high_percent"] is None


def test_the_commonest_mistakes_are_few_even_for_many_classes(tmp_path):
    dataset = open_dataset(write_set(tmp_path, 4, classes=12, size=(30, 30)))
    run = evaluate(ColourModel(12), dataset, AS_STORED)
    rows = run.breakdown["confusion"]
    assert len(rows) == 20
    assert [row["pixels"] for row in rows] == sorted((row["pixels"] for row in rows), reverse=True)


def test_where_an_analysis_cannot_be_written_is_named(two_images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegzooError, match=r"cannot write .*file/per_class\.csv"):
        evaluate(ColourModel(4), two_images, AS_STORED, analysis=tmp_path / "file")


class Sure(ColourModel):
    """The same classes, with a probability of 5/6 each: logits log 10 and, for each of two others, log 1."""

    def forward(self, image):
        logits = super().forward(image)
        best = logits.argmax(1, keepdim=True)
        return torch.zeros_like(logits).scatter(1, best, math.log(10.0))


def test_borders_and_calibration_are_measured_where_asked_for(tmp_path):
    dataset = open_dataset(write_set(tmp_path, 6, size=(20, 30)))
    plain = evaluate(Sure(3), dataset, AS_STORED)
    assert not {"boundary_miou_percent", "ece_percent"} & plain.metrics.keys()
    run = evaluate(Sure(3), dataset, AS_STORED, boundary=True, calibration=True)
    assert run.metrics["miou_percent"] == plain.metrics["miou_percent"]
    # Always sure by 5/6, and right as often as the accuracy says.
    assert run.metrics["ece_percent"] == pytest.approx(abs(run.metrics["aacc_percent"] - 100 * 5 / 6), abs=1e-4)
    used = [row for row in run.breakdown["calibration"] if row["pixels"]]
    assert len(run.breakdown["calibration"]) == 15 and len(used) == 1
    assert used[0]["pixels"] == run.metrics["pixels"] and used[0]["from_percent"] == pytest.approx(80)
    assert used[0]["accuracy_percent"] == run.metrics["aacc_percent"]
    conditions = run.conditions
    assert conditions["boundary_dilation_ratio"] == 0.02 and conditions["boundary_tolerance_ratio"] == 0.0075
    assert conditions["calibration_bins"] == 15


def test_border_measures_of_a_data_set_are_sums_and_means_of_its_images(tmp_path):
    dataset = open_dataset(write_set(tmp_path, 5, size=(20, 30)))
    model = ColourModel(3)
    run = evaluate(model, dataset, AS_STORED, boundary=True)
    areas, f_scores = np.zeros((3, 3)), []
    for index in range(5):
        prediction = predict(model, dataset.image(index), AS_STORED)
        label = dataset.label(index)
        areas += boundary_areas(prediction, label, num_classes=3, ignore=255)
        f_scores.append(contour_f(contour_matches(prediction, label, num_classes=3, ignore=255)))
    expected = areas[0] / (areas[1] + areas[2] - areas[0])
    assert run.metrics["boundary_miou_percent"] == pytest.approx(100 * expected.mean())
    assert [row["boundary_iou_percent"] for row in run.breakdown["class"]] == pytest.approx(100 * expected)
    assert run.metrics["boundary_f_percent"] == pytest.approx(100 * np.mean(f_scores))
    assert [row["boundary_f_percent"] for row in run.breakdown["class"]] == pytest.approx(
        100 * np.mean(f_scores, axis=0)
    )
    assert [row["boundary_f_percent"] for row in run.breakdown["image"]] == pytest.approx(
        100 * np.mean(f_scores, axis=1)
    )


def test_the_gallery_shows_the_worst_images_first_and_needs_no_other_file(tmp_path, monkeypatch):
    monkeypatch.setattr("segzoo.evaluation.analysis.WORST_IMAGES", 3)
    dataset = open_dataset(write_set(tmp_path / "set", 7, size=(20, 30)))
    run = evaluate(ColourModel(3), dataset, AS_STORED, analysis=tmp_path / "out", name="<colours>")
    text = (tmp_path / "out" / "worst.html").read_text()
    order = sorted(run.breakdown["image"], key=lambda row: row["labelled_miou_percent"])
    assert re.findall(r"<h2>(\d+)</h2>", text) == [row["image"] for row in order[:3]]
    assert f"{order[0]['labelled_miou_percent']:.2f} %" in text
    assert "&lt;colours&gt;" in text and "<colours>" not in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 12 and all(source.startswith("data:image/") for source in sources)
    pictures = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources[:4]]
    worst = int(order[0]["image"])
    prediction, label = predict(ColourModel(3), dataset.image(worst), AS_STORED), dataset.label(worst)
    mistakes = np.array(pictures[3].convert("RGB"))
    wrong = (prediction != label) & (label != 255)
    assert np.array_equal((mistakes == (213, 94, 0)).all(axis=-1), wrong) and wrong.any()
    assert np.array_equal((mistakes == 255).all(axis=-1), label == 255)


def test_the_reliability_diagram_has_bars_as_high_as_the_accuracy():
    bins = [
        {"from_percent": 0.0, "to_percent": 50.0, "pixels": 10, "confidence_percent": 30.0, "accuracy_percent": 60.0},
        {"from_percent": 50.0, "to_percent": 100.0, "pixels": 0, "confidence_percent": None, "accuracy_percent": None},
    ]
    picture = reliability_picture(bins, error_percent=30.0, title="t")
    bar = [picture.getpixel((84 + 60, 92 + round(480 * (1 - percent / 100)))) for percent in (20, 40, 50, 70)]
    assert bar == [(0, 114, 178), (242, 190, 150), (242, 190, 150), (255, 255, 255)]
    assert picture.getpixel((84 + 400, 92 + 300)) == (255, 255, 255)
