"""`segzoo predict` as a user types it, on pictures of all kinds and a model of the user's own manifest."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from own_manifest import MANIFEST
from PIL import Image
from tiny_network import picture

import segzoo
from segzoo.errors import UsageError
from segzoo.pictures import find_images, output_stems


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A folder with a manifest, weights and two pictures in `in`; the working directory of the test."""
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    monkeypatch.setenv("SEGZOO_ZOO", str(tmp_path / "zoo.yaml"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.yaml").write_text(MANIFEST)
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(50, 70)).save("in/street.png")
    Image.fromarray(picture(64, 40, 1)).save("in/field.jpg")
    torch.manual_seed(0)
    torch.save(segzoo.create_model("tiny-nat").state_dict(), tmp_path / "weights.pth")
    return tmp_path


def words(*more):
    return ["predict", "tiny-nat", *more, "--checkpoint", "weights.pth", "--device", "cpu"]


def one_line(result, code):
    lines = [line for line in result.err.splitlines() if line]
    assert result.code == code, result
    assert result.out == "" and len(lines) == 1 and lines[0].startswith("segzoo: error: "), result
    return lines[0]


def test_a_folder_gives_label_maps_overlays_and_a_record(segzoo_command, user):
    result = segzoo_command(*words("in", "-o", "out"))
    assert result.code == 0, result
    assert "tiny-nat" in result.out and "street.png" in result.out and "50x70" in result.out
    found = sorted(item.name for item in (user / "out").iterdir())
    assert found == ["field.png", "field_overlay.png", "predict.json", "street.png", "street_overlay.png"]
    model = segzoo.create_model("tiny-nat", checkpoint="weights.pth")
    with Image.open("out/street.png") as written:
        assert written.mode == "L"
        labels = np.array(written)
    np.testing.assert_array_equal(labels, segzoo.predict(model, "in/street.png", segzoo.get_protocol("small")))
    record = json.loads((user / "out" / "predict.json").read_text())
    street = next(row for row in record["breakdown"]["image"] if row["image"].endswith("street.png"))
    assert street["classes"] == len(np.unique(labels)) and street["size"] == "50x70"
    shares = {row["index"]: row["share"] for row in record["breakdown"]["class"] if row["image"] == street["image"]}
    assert shares == {int(index): float((labels == index).mean()) for index in np.unique(labels)}
    assert len(record["model"]["weights_sha256"]) == 64


def test_overlays_have_the_data_sets_colours(segzoo_command, user):
    assert segzoo_command(*words("in/street.png", "-o", "out", "--opacity", "1")).code == 0
    with Image.open("out/street.png") as labels, Image.open("out/street_overlay.png") as page:
        index, enlarged = int(np.array(labels)[20, 20]), 480 // 70 + 1
        wanted = {0: (200, 0, 0), 1: (0, 200, 0), 2: (0, 0, 200)}[index]
        block = np.array(page)[20 * enlarged : 21 * enlarged, 20 * enlarged : 21 * enlarged].reshape(-1, 3)
    assert wanted in {tuple(colour) for colour in block.tolist()}


def test_json_is_the_record_in_the_folder(segzoo_command, user):
    result = segzoo_command(*words("in/street.png", "in/field.jpg", "--json", "--aug-test"))
    assert json.loads(result.out) == json.loads((user / "predictions" / "predict.json").read_text())
    assert json.loads(result.out)["conditions"]["protocol"] == "small + aug-test"


def test_equal_names_do_not_overwrite_each_other(segzoo_command, user):
    for folder in ("a", "b"):
        (user / folder).mkdir()
        Image.fromarray(picture(30, 40, ord(folder))).save(f"{folder}/x.png")
    Image.fromarray(picture(30, 40, 5)).save("a/x.jpg")
    assert segzoo_command(*words("a", "b", "-o", "out")).code == 0
    found = sorted(item.name for item in (user / "out").glob("*.png") if "overlay" not in item.name)
    assert found == ["a-x.png", "b-x.png", "x.png"]


def test_stems_of_results(tmp_path):
    files = [tmp_path / name for name in ("p/x.png", "q/x.jpg", "r/q/x.jpg", "p/X_overlay.jpg", "p/y.jpg")]
    stems = output_stems(files, tmp_path / "out")
    assert list(stems.values()) == ["x", "q-x", "q-x-2", "p-X_overlay", "y"]
    with pytest.raises(UsageError, match="overwrite the images"):
        output_stems([tmp_path / "x.png"], tmp_path)
    assert output_stems([tmp_path / "x.jpg"], tmp_path) == {tmp_path / "x.jpg": "x"}


def test_a_file_that_is_named_twice_is_taken_once(user):
    assert [str(path) for path in find_images([user / "in", user / "in" / "field.jpg"])] == [
        str(user / "in" / "field.jpg"),
        str(user / "in" / "street.png"),
    ]


def test_bad_input_is_one_line_and_exit_code_5(segzoo_command, user):
    assert "nowhere.jpg" in one_line(segzoo_command(*words("nowhere.jpg")), 5)
    (user / "empty").mkdir()
    assert "no images in the folder empty" in one_line(segzoo_command(*words("empty")), 5)
    (user / "corrupt.jpg").write_bytes((user / "in" / "field.jpg").read_bytes()[:400])
    assert "corrupt.jpg" in one_line(segzoo_command(*words("corrupt.jpg")), 5)
    (user / "text.png").write_text("no picture")
    assert "text.png" in one_line(segzoo_command(*words("text.png")), 5)
    assert not (user / "predictions").exists()


def test_what_was_done_before_a_corrupt_image_stays(segzoo_command, user):
    (user / "in" / "zebra.png").write_text("no picture")
    assert "zebra.png" in one_line(segzoo_command(*words("in", "-o", "out")), 5)
    assert sorted(item.name for item in (user / "out").iterdir()) == [
        "field.png",
        "field_overlay.png",
        "street.png",
        "street_overlay.png",
    ]


def test_usage_errors(segzoo_command, user):
    assert "did you mean 'tiny-nat'" in one_line(segzoo_command("predict", "tiny-nta", "in"), 2)
    assert "opacity 1.5" in one_line(segzoo_command(*words("in", "--opacity", "1.5")), 2)
    assert "overwrite the images" in one_line(segzoo_command(*words("in", "-o", "in")), 2)


def test_a_folder_that_cannot_be_made_is_one_line(segzoo_command, user):
    (user / "file").write_text("")
    assert "file" in one_line(segzoo_command(*words("in", "-o", "file")), 2)
