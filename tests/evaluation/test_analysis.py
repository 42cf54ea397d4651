"""The files of an analysis, on images that were counted by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from colour_model import AS_STORED, ColourModel, write, write_set
from PIL import Image

from segzoo.data import open_dataset
from segzoo.errors import SegzooError
from segzoo.evaluation import evaluate
from segzoo.metrics import read_areas


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
