from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from colour_model import AS_STORED, ColourModel, write, write_set
from PIL import Image
from torch import nn

import segzoo
from segzoo.data import open_dataset
from segzoo.data.ahead import read_ahead
from segzoo.data.corruptions import CorruptedDataset, corruption_of
from segzoo.errors import DatasetError, SegzooError, UsageError
from segzoo.evaluation import evaluate
from segzoo.results import read_run


@pytest.fixture
def two_images(tmp_path):
    """Of 12 pixels 2 are ignored; class 0 has 5 (4 seen right), class 1 has 5 (3 right), class 2 none."""
    write(tmp_path, "a", np.array([[0, 0, 0], [0, 1, 1]]), np.array([[0, 0, 0], [255, 1, 0]]))
    write(tmp_path, "deep/b", np.array([[1, 1, 0], [2, 0, 1]]), np.array([[1, 1, 0], [1, 1, 255]]))
    (tmp_path / "classes.txt").write_text("zero\none\ntwo\nthree\n")
    return open_dataset(tmp_path)


def test_metrics_are_those_counted_by_hand(two_images):
    run = evaluate(ColourModel(4), two_images, AS_STORED)
    # Intersections 4, 3, 0, 0; unions 5 + 5 - 4, 5 + 4 - 3, 0 + 1 - 0 and none.
    assert run.metrics["miou_percent"] == pytest.approx(100 * (4 / 6 + 3 / 6 + 0) / 3)
    assert run.metrics["macc_percent"] == pytest.approx(100 * (4 / 5 + 3 / 5) / 2)
    assert run.metrics["aacc_percent"] == pytest.approx(70.0)
    assert (run.metrics["images"], run.metrics["pixels"], run.metrics["classes_with_iou"]) == (2, 10, 3)
    assert (run.status, run.notes) == ("ok", [])


def test_classes_and_images_have_rows_in_order(two_images):
    run = evaluate(ColourModel(4), two_images, AS_STORED)
    classes = run.breakdown["class"]
    assert [row["class"] for row in classes] == ["zero", "one", "two", "three"]
    assert [row["pixels"] for row in classes] == [5, 5, 0, 0]
    assert [row["predicted_pixels"] for row in classes] == [5, 4, 1, 0]
    assert classes[2]["iou_percent"] == 0.0 and classes[2]["accuracy_percent"] is None
    assert classes[3]["iou_percent"] is None
    first, second = run.breakdown["image"]
    assert (first["image"], second["image"]) == ("a", "deep/b")
    # Image a: class 0 3 of 4, class 1 1 of 2. Image b: class 0 1 of 2, class 1 2 of 4, class 2 0 of 1.
    assert first["miou_percent"] == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert second["miou_percent"] == pytest.approx(100 * (1 / 2 + 2 / 4 + 0) / 3)
    assert second["labelled_miou_percent"] == pytest.approx(50.0)
    assert second["accuracy_percent"] == pytest.approx(60.0)


def test_the_record_says_all_that_would_change_the_numbers_and_survives_json(two_images, tmp_path):
    run = evaluate(ColourModel(4), two_images, AS_STORED.aug_test(), name="colours")
    assert run.model == {"name": "colours", "params": 4}
    conditions = run.conditions
    assert conditions["data_fingerprint"] == two_images.fingerprint()
    assert (conditions["dataset"], conditions["split"], conditions["views"]) == (two_images.name, "val", 12)
    assert conditions["protocol"] == "whole at the image's size, 12 views"
    assert conditions["protocol_fields"]["flip"] is True
    assert (conditions["device"], conditions["dtype"]) == ("cpu", "fp32")
    assert conditions["threads"] == torch.get_num_threads() and conditions["kernels"]
    assert run.environment.packages["torch"] and run.started and run.duration_s > 0
    (tmp_path / "run.json").write_text(run.to_json())
    again = read_run(tmp_path / "run.json")
    assert again.metrics == run.metrics and again.breakdown == run.breakdown


def test_a_limit_takes_the_first_images_and_marks_the_record(tmp_path):
    dataset = open_dataset(write_set(tmp_path, 5))
    run = evaluate(ColourModel(3), dataset, AS_STORED, limit=2)
    assert [row["image"] for row in run.breakdown["image"]] == ["000", "001"]
    assert run.status == "partial" and run.notes == ["partial: the first 2 of 5 images"]
    assert evaluate(ColourModel(3), dataset, AS_STORED, limit=9).status == "ok"


def test_reading_ahead_changes_nothing(tmp_path):
    dataset = open_dataset(write_set(tmp_path, 9))
    runs = [evaluate(ColourModel(3), dataset, AS_STORED, workers=workers) for workers in (0, 1, 4)]
    assert runs[0].breakdown == runs[1].breakdown == runs[2].breakdown
    assert runs[0].metrics["miou_percent"] not in (0.0, 100.0)


def test_scenes_come_whole_from_several_reading_threads():
    dataset = open_dataset("scenes")
    alone = [(pair.image, pair.label) for pair in read_ahead(dataset, range(6), 0)]
    for workers in (1, 3):
        pairs = list(read_ahead(open_dataset("scenes"), range(6), workers))
        assert [pair.name for pair in pairs] == [dataset.image_name(index) for index in range(6)]
        for pair, (image, label) in zip(pairs, alone, strict=True):
            assert np.array_equal(pair.image, image) and np.array_equal(pair.label, label)


class Endless:
    """Counts which pairs were asked for."""

    name, split, classes, num_classes, palette = "endless", "val", ["a", "b"], 2, None

    def __init__(self):
        self.asked = 0
        self.lock = threading.Lock()

    def __len__(self):
        return 10**9

    def image_name(self, index):
        return str(index)

    def image(self, index):
        with self.lock:
            self.asked = max(self.asked, index + 1)
        return np.zeros((2, 2, 3), np.uint8)

    def label(self, index):
        return np.zeros((2, 2), np.uint8)

    def fingerprint(self):
        return "0" * 64


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_reading_stays_a_few_pairs_ahead_and_stops_when_asked(workers):
    dataset = Endless()
    pairs = read_ahead(dataset, range(len(dataset)), workers)
    for used in range(1, 50):
        assert next(pairs).name == str(used - 1)
        assert dataset.asked <= used + 2 * workers
    pairs.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segzoo-reader")]


def test_predictions_are_saved_under_the_images_names(two_images, tmp_path):
    folder = tmp_path / "out"
    evaluate(ColourModel(4), two_images, AS_STORED, save_predictions=folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["a.png", "deep/b.png"]
    with Image.open(folder / "deep/b.png") as saved:
        assert saved.mode == "L"
        assert np.array(saved).tolist() == [[1, 1, 0], [2, 0, 1]]


def test_predictions_of_many_classes_are_saved_in_sixteen_bits(tmp_path):
    class Constant(nn.Module):
        def forward(self, image):
            logits = torch.zeros(1, 300, 2, 2)
            logits[:, 299] = 1
            return logits

    write(tmp_path, "a", np.zeros((4, 4)), np.zeros((4, 4)))
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(300))))
    run = evaluate(Constant(), open_dataset(tmp_path), AS_STORED, save_predictions=tmp_path / "out")
    assert run.metrics["aacc_percent"] == 0.0
    with Image.open(tmp_path / "out/a.png") as saved:
        assert np.array(saved).tolist() == [[299] * 4] * 4


def test_where_predictions_cannot_be_written_is_named(two_images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegzooError, match=r"cannot write .*file/a\.png"):
        evaluate(ColourModel(4), two_images, AS_STORED, save_predictions=tmp_path / "file")


def test_a_faulty_pair_stops_the_evaluation_with_its_name(tmp_path):
    root = write_set(tmp_path, 4)
    content = (root / "images/002.png").read_bytes()
    (root / "images/002.png").write_bytes(content[: len(content) // 2])
    for workers in (0, 2):
        with pytest.raises(DatasetError, match=r"002\.png is truncated"):
            evaluate(ColourModel(3), open_dataset(root), AS_STORED, workers=workers)


def test_logits_that_are_no_numbers_are_an_error_that_names_the_image(two_images):
    class Broken(nn.Module):
        def forward(self, image):
            return torch.full((1, 4, *image.shape[2:]), float("nan"))

    with pytest.raises(SegzooError, match="image a: "):
        evaluate(Broken(), two_images, AS_STORED)


@pytest.mark.parametrize("classes", [3, 9])
def test_a_model_of_another_number_of_classes_than_the_data_set_is_refused(two_images, classes):
    with pytest.raises(UsageError, match=rf"image a: the model gives {classes} classes, .* has 4"):
        evaluate(ColourModel(classes), two_images, AS_STORED)


def test_an_empty_data_set_is_an_error():
    class Empty(Endless):
        def __len__(self):
            return 0

    with pytest.raises(DatasetError, match="endless val has no images"):
        evaluate(ColourModel(2), Empty(), AS_STORED)


def test_the_public_name_is_this_function(two_images):
    run = segzoo.evaluate(ColourModel(4), two_images, dataclasses.replace(AS_STORED, flip=True))
    assert run.metrics["aacc_percent"] == pytest.approx(70.0)


def test_data_set_and_protocol_may_be_named(tmp_path):
    root = write_set(tmp_path, 2, size=(32, 32))
    run = segzoo.evaluate(ColourModel(3), root, "scenes-whole")
    assert run.conditions["dataset"] == tmp_path.name and run.conditions["protocol_fields"]["scale"] == (256, 192)


def test_a_compiled_evaluation_runs_what_torch_compile_gives(two_images, monkeypatch):
    compiled = []

    def compile_(model):
        compiled.append(model)
        return lambda image: model(image).flip(1)  # Tells the two apart.

    monkeypatch.setattr(torch, "compile", compile_)
    model = ColourModel(4)
    plain, run = evaluate(model, two_images, AS_STORED), evaluate(model, two_images, AS_STORED, compile=True)
    assert compiled == [model] and (plain.conditions["compile"], run.conditions["compile"]) == (False, True)
    assert run.metrics["aacc_percent"] != plain.metrics["aacc_percent"] and run.model == plain.model


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_evaluation(two_images):
    model = ColourModel(4)
    plain, run = evaluate(model, two_images, AS_STORED), evaluate(model, two_images, AS_STORED, compile=True)
    assert run.breakdown == plain.breakdown


def test_corrupted_images_are_what_is_evaluated(two_images):
    model = ColourModel(4)
    run = evaluate(model, two_images, AS_STORED, corruption="contrast:5")
    expected = segzoo.evaluate(model, CorruptedDataset(two_images, corruption_of("contrast:5")), AS_STORED)
    assert run.breakdown == expected.breakdown != evaluate(model, two_images, AS_STORED).breakdown
    assert run.conditions["corruption"] == "contrast:5" and run.conditions["data_fingerprint"] == (
        two_images.fingerprint()
    )
    with pytest.raises(UsageError, match="'fog' stands for 5 corruptions; give one, such as fog:1"):
        evaluate(model, two_images, AS_STORED, corruption="fog")
