"""`segzoo compare` on records that `segzoo eval` writes, and on those it must refuse."""

from __future__ import annotations

import csv
import io
import json

import pytest
from colour_model import AS_STORED, ColourModel, write_set

from segzoo.data import open_dataset
from segzoo.evaluation import evaluate


class Worse(ColourModel):
    """Never says class 1."""

    def forward(self, image):
        logits = super().forward(image)
        logits[:, 1] = -1e6
        return logits


@pytest.fixture
def records(tmp_path):
    """good.json and bad.json, evaluated on the same twelve images."""
    dataset = open_dataset(write_set(tmp_path / "set", 12))
    for name, model in (("good", ColourModel(3)), ("bad", Worse(3))):
        run = evaluate(model, dataset, AS_STORED, name=name)
        (tmp_path / f"{name}.json").write_text(run.to_json())
    return tmp_path


def changed(records, name, **changes):
    raw = json.loads((records / f"{name}.json").read_text())
    raw["conditions"] |= changes
    (records / "changed.json").write_text(json.dumps(raw))
    return str(records / "changed.json")


def refused(result, code=2):
    lines = result.err.splitlines()
    assert result.code == code and result.out == "" and len(lines) == 1
    return lines[0]


def test_the_difference_and_its_sides_are_those_of_the_records(segzoo_command, records):
    files = [str(records / f"{name}.json") for name in ("bad", "good")]
    result = segzoo_command("compare", *files, "--json", "-o", str(records / "comparison.json"))
    run = json.loads(result.out)
    before, after = (json.loads((records / f"{name}.json").read_text()) for name in ("bad", "good"))
    metrics = run["metrics"]
    assert metrics["difference_percent"] == pytest.approx(
        after["metrics"]["miou_percent"] - before["metrics"]["miou_percent"]
    )
    assert 0 < metrics["difference_low_percent"] < metrics["difference_percent"] < metrics["difference_high_percent"]
    assert metrics["p_value"] < 0.001 and metrics["images"] == 12 and run["conditions"]["better"] == "good"
    assert run["model"]["name"] == "bad -> good"
    rows = run["breakdown"]["class"]
    assert [row["winner"] for row in rows].count("good") == metrics["classes_second_wins"] >= 1
    assert rows[1]["first_iou_percent"] == 0.0 and rows[1]["winner"] == "good"
    assert json.loads((records / "comparison.json").read_text())["metrics"] == metrics


def test_turned_round_the_difference_changes_its_sign(segzoo_command, records):
    one, other = (
        json.loads(segzoo_command("compare", *(str(records / f"{name}.json") for name in names), "--json").out)
        for names in (("bad", "good"), ("good", "bad"))
    )
    assert one["metrics"]["difference_percent"] == pytest.approx(-other["metrics"]["difference_percent"])
    assert one["metrics"]["difference_low_percent"] == pytest.approx(-other["metrics"]["difference_high_percent"])
    assert one["metrics"]["classes_second_wins"] == other["metrics"]["classes_first_wins"]


def test_the_table_has_totals_and_classes_and_csv_the_classes_alone(segzoo_command, records):
    files = [str(records / f"{name}.json") for name in ("bad", "good")]
    table = segzoo_command("compare", *files).out
    assert "bad -> good" in table and "95 % interval" in table and "class 1" in table
    rows = list(csv.DictReader(io.StringIO(segzoo_command("compare", *files, "--format", "csv").out)))
    assert [row["class"] for row in rows] == ["class 0", "class 1", "class 2"]


def test_a_record_and_itself_are_told_by_their_files(segzoo_command, records):
    good = records / "good.json"
    (records / "copy.json").write_text(good.read_text())
    run = json.loads(segzoo_command("compare", str(good), str(records / "copy.json"), "--json").out)
    assert run["model"]["name"] == "good -> copy"
    assert (run["metrics"]["difference_percent"], run["metrics"]["p_value"]) == (0.0, 1.0)
    assert run["metrics"]["classes_undecided"] == 3


def test_other_data_are_refused_in_one_line(segzoo_command, records):
    good = str(records / "good.json")
    other = changed(records, "bad", data_fingerprint="0" * 64)
    assert "different data: data fingerprint" in refused(segzoo_command("compare", good, other))
    assert "label policy" in refused(segzoo_command("compare", good, other))
    assert "split val and train" in refused(segzoo_command("compare", good, changed(records, "bad", split="train")))


def test_labels_that_differ_under_one_fingerprint_are_refused_with_the_image(segzoo_command, records):
    raw = json.loads((records / "bad.json").read_text())
    row = raw["breakdown"]["image"][4]
    first, *rest = row["areas"].split()
    index, _, areas = first.partition(":")
    found, label, predicted = map(int, areas.split("/"))
    row["areas"] = " ".join([f"{index}:{found}/{label + 1}/{predicted}", *rest])
    (records / "relabelled.json").write_text(json.dumps(raw))
    line = refused(segzoo_command("compare", str(records / "good.json"), str(records / "relabelled.json")))
    assert f"image 004 has {label} and {label + 1} pixels of class {index}" in line


def test_records_without_an_evaluation_or_without_areas_are_refused(segzoo_command, records):
    good = str(records / "good.json")
    (records / "list.json").write_text(segzoo_command("list", "nat-pico", "--json").out)
    assert "no evaluation, but records of list" in refused(segzoo_command("compare", good, str(records / "list.json")))
    raw = json.loads((records / "bad.json").read_text())
    (records / "two.json").write_text(json.dumps([raw, raw]))
    assert "holds 2 evaluations" in refused(segzoo_command("compare", good, str(records / "two.json")))
    del raw["breakdown"]["image"]
    (records / "old.json").write_text(json.dumps(raw))
    assert "no areas by image" in refused(segzoo_command("compare", good, str(records / "old.json")))
    raw["schema"] = 999
    (records / "newer.json").write_text(json.dumps(raw))
    assert "schema 999" in refused(segzoo_command("compare", good, str(records / "newer.json")), code=4)


def test_a_part_is_compared_over_the_images_that_both_have(segzoo_command, records):
    dataset = open_dataset(records / "set")
    part = evaluate(ColourModel(3), dataset, AS_STORED, name="part", limit=5)
    (records / "part.json").write_text(part.to_json())
    run = json.loads(segzoo_command("compare", str(records / "bad.json"), str(records / "part.json"), "--json").out)
    assert run["metrics"]["images"] == 5 and "7 images that only one of the two has are left out" in run["notes"]
    assert run["metrics"]["second_miou_percent"] == pytest.approx(part.metrics["miou_percent"])
