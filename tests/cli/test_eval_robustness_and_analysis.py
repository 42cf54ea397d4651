"""`segzoo eval` with --corrupt, --precision-report and --analysis: more than one figure for a model."""

from __future__ import annotations

import csv
import io
import json

import pytest
from own_manifest import one_line, words


def test_corrupted_images_make_a_table_and_a_record_each(segzoo_command, user):
    result = segzoo_command(*words(user, "--corrupt", "contrast", "--corrupt", "jpeg:2", "-o", str(user / "run.json")))
    assert result.code == 0 and "contrast" in result.out and "relative_drop_percent" in result.out
    summary, clean, *corrupted = json.loads((user / "run.json").read_text())
    assert summary["command"] == "robustness" and clean["command"] == "eval"
    assert [run["conditions"].get("corruption") for run in [clean, *corrupted]] == [
        None, *(f"contrast:{strength}" for strength in range(1, 6)), "jpeg:2",
    ]  # fmt: skip
    assert clean["expected"] and not any(run["expected"] for run in corrupted)
    (contrast, jpeg) = summary["breakdown"]["corruption"]
    assert contrast["strength_5_percent"] == corrupted[4]["metrics"]["miou_percent"]
    assert jpeg["mean_percent"] == corrupted[5]["metrics"]["miou_percent"]
    alone = json.loads(segzoo_command(*words(user, "--json")).out)
    assert clean["metrics"]["miou_percent"] == alone["metrics"]["miou_percent"] == summary["metrics"]["miou_percent"]
    rows = list(csv.DictReader(io.StringIO(segzoo_command(*words(user, "--corrupt", "fog:1", "--format", "csv")).out)))
    assert [row["corruption"] for row in rows] == ["fog"]


def test_each_corruption_has_its_own_folder_and_the_clean_record_can_be_compared(segzoo_command, user):
    out = str(user / "maps")
    segzoo_command(*words(user, "--corrupt", "fog:2", "--save-predictions", out, "-o", str(user / "run.json")))
    assert sorted(path.name for path in (user / "maps").iterdir()) == ["clean", "fog-2"]
    assert len(list((user / "maps/fog-2").iterdir())) == 3
    segzoo_command(*words(user, "-o", str(user / "alone.json")))
    result = segzoo_command("compare", str(user / "run.json"), str(user / "alone.json"), "--json")
    assert json.loads(result.out)["metrics"]["difference_percent"] == 0.0


def test_a_precision_report_lists_every_format(segzoo_command, user):
    result = segzoo_command(*words(user, "--precision-report", "-o", str(user / "run.json")))
    assert result.code == 0 and "same_labels_percent" in result.out
    summary, *runs = json.loads((user / "run.json").read_text())
    rows = {row["format"]: row for row in summary["breakdown"]["precision"]}
    assert list(rows) == ["fp32", "tf32", "bf16", "fp16"]
    assert "CUDA" in rows["tf32"]["not used because"] and rows["bf16"]["same_labels_percent"] > 50
    assert [run["conditions"]["dtype"] for run in runs] == ["fp32", "bf16", "fp16"]
    assert runs[0]["expected"][0]["value"] == 44.0 and runs[0]["model"]["weights_sha256"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--corrupt", "fig:1"], "unknown corruption 'fig'; did you mean 'fog'"),
        (["--corrupt", "fog:9"], "impossible strength '9'"),
        (["--precision-report", "--corrupt", "fog:1"], "--precision-report does not go with --corrupt"),
        (["--precision-report", "--dtype", "bf16", "--boundary"], "does not go with --dtype, --boundary"),
        (["--precision-report", "--analysis", "x"], "does not go with --analysis"),
    ],
)
def test_words_of_corruptions_and_precision_that_cannot_be_are_one_line(segzoo_command, user, more, said):
    assert said in one_line(segzoo_command(*words(user, *more)), 2)


def test_an_analysis_is_a_folder_of_files_a_model(segzoo_command, user):
    result = segzoo_command(*words(user, "--analysis", str(user / "analysis")))
    assert result.code == 0 and "boundary mIoU" in result.out and "ECE" in result.out
    assert sorted(path.name for path in (user / "analysis").iterdir()) == [
        "calibration.csv", "confusion.csv", "confusion.png", "iou_by_image_and_class.csv", "per_class.csv",
        "per_image.csv", "reliability.png", "worst.html",
    ]  # fmt: skip
