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
