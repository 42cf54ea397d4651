from __future__ import annotations

import json

import numpy as np
from colour_model import write_set
from PIL import Image


def test_a_good_folder_is_counted_by_class(segzoo_command, tmp_path):
    root = write_set(tmp_path / "mine", 3)
    labels = np.stack([np.array(Image.open(path)) for path in sorted((root / "labels").iterdir())])
    run = json.loads(segzoo_command("data", "check", str(root), "--json").out)
    assert run["metrics"]["images"] == 3 and run["metrics"]["problems"] == 0
    assert run["metrics"]["ignored_pixels"] == (labels == 255).sum()
    assert [row["pixels"] for row in run["breakdown"]["class"]] == [(labels == index).sum() for index in range(3)]
    table = segzoo_command("data", "check", str(root), "--per-class").out
    assert "mine" in table and "class 2" in table
    partial = segzoo_command("data", "check", str(root), "--limit", "1")
    assert partial.code == 0 and "partial: the first 1 of 3 images" in partial.out


def test_every_problem_is_listed_and_the_exit_code_is_5(segzoo_command, tmp_path):
    root = write_set(tmp_path / "mine", 4)
    Image.fromarray(np.full((6, 9), 9, np.uint8)).save(root / "labels/001.png")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(root / "labels/003.png")
    result = segzoo_command("data", "check", str(root))
    assert result.code == 5
    assert "001" in result.out and "has the value 9" in result.out and "differ in size" in result.out
    assert len(result.err.splitlines()) == 1 and "(and 1 more, listed above)" in result.err
    assert len(json.loads(segzoo_command("data", "check", str(root), "--json").out)["breakdown"]["problem"]) == 2


def test_a_folder_is_recognised_and_every_split_is_a_row(segzoo_command, tmp_path):
    root = tmp_path / "data"
    for split in ("train", "val"):
        made = write_set(tmp_path / split, 2, classes=11)
        root.mkdir(exist_ok=True)
        (made / "images").rename(root / split)
        (made / "labels").rename(root / f"{split}annot")
    result = segzoo_command("data", "check", str(root))
    assert result.code == 5 and "looks like camvid" in result.err
    assert "camvid train: 2 pairs are here, published are 367" in result.out
    result = segzoo_command("data", "check", str(root), "--partial", "--json")
    assert result.code == 0
    assert [run["conditions"]["split"] for run in json.loads(result.out)] == ["train", "val"]
    # The same two pictures were drawn twice; CamVid ignores 11, and 255 is in no published label.
    kinds = [row["kind"] for row in json.loads(result.out)[1]["breakdown"]["warning"]]
    assert kinds == ["duplicate", "duplicate", "label policy"]
    one = segzoo_command("data", "check", "camvid", "--data-root", str(root), "--split", "val", "--partial")
    assert one.code == 0 and "train" not in one.out
    wrong = segzoo_command("data", "check", str(root / "train"), "--dataset", "camvid")
    assert wrong.code == 5 and f"give {root}" in wrong.err
