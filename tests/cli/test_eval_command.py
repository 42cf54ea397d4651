"""`segzoo eval` as a user types it, on data and a model of the user's own manifest."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import torch
from colour_model import write_set
from own_manifest import MANIFEST, forget_manifest, one_line, words
from PIL import Image

from segzoo.results import read_run


def test_the_table_shows_totals_and_the_published_figure(segzoo_command, user):
    result = segzoo_command(*words(user))
    assert result.code == 0
    heading, _, totals = result.out.splitlines()[:3]
    expected = "model data set protocol images mIoU 95 % interval mAcc aAcc device dtype images/s"
    assert " ".join(heading.split()) == expected
    assert totals.split()[:5] == ["tiny-nat", "mine", "val", "small", "3"]
    assert "published" in result.out and "44" in result.out and "OFF" in result.out and "nowhere" in result.out


def test_json_file_and_table_are_one_record(segzoo_command, user):
    result = segzoo_command(*words(user, "--json", "--aug-test", "-o", str(user / "run.json")))
    printed = json.loads(result.out)
    assert printed == json.loads((user / "run.json").read_text())
    run = read_run(user / "run.json")
    assert run.conditions["protocol"] == "small + aug-test" and run.conditions["views"] == 12
    assert len(run.model["weights_sha256"]) == 64 and run.model["layout"]
    (expected,) = run.expected
    assert expected.value == 45.5 and expected.measured == run.metrics["miou_percent"]
    assert run.command_line[:3] == ["segzoo", "eval", "tiny-nat"]
    assert {row["class"] for row in run.breakdown["class"]} == {"cat", "dog", "cow"}


def test_per_class_shows_the_classes_below_the_totals_and_alone_in_csv(segzoo_command, user):
    table = segzoo_command(*words(user, "--per-class")).out
    assert table.index("tiny-nat") < table.index("cat") < table.index("dog") < table.index("cow")
    rows = list(csv.DictReader(io.StringIO(segzoo_command(*words(user, "--per-class", "--format", "csv")).out)))
    assert [row["class"] for row in rows] == ["cat", "dog", "cow"]
    assert sum(int(row["pixels"]) for row in rows) > 0


def test_check_prints_the_record_and_exits_with_7_outside_the_tolerance(segzoo_command, user):
    result = segzoo_command(*words(user, "--check", "-o", str(user / "run.json")))
    assert result.code == 7
    assert "tiny-nat" in result.out and "published is 44" in result.err and len(result.err.splitlines()) == 1
    measured = read_run(user / "run.json").metrics["miou_percent"]
    (user / "zoo.yaml").write_text(MANIFEST.replace("miou: 44.0", f"miou: {measured + 0.2:.2f}"))
    forget_manifest()
    result = segzoo_command(*words(user, "--check"))
    assert result.code == 0 and " ok " in result.out and result.err == ""


def test_a_limit_is_marked_and_cannot_be_checked(segzoo_command, user):
    result = segzoo_command(*words(user, "--limit", "1"))
    assert result.code == 0 and "tiny-nat*" in result.out and "partial: the first 1 of 3 images" in result.out
    assert "leave out --limit" in one_line(segzoo_command(*words(user, "--limit", "1", "--check")), 2)


def test_fewer_pairs_than_published_are_partial_and_fail_the_check(segzoo_command, user):
    for folder in ("images", "labels"):
        (user / "mine" / folder / "002.png").unlink()
    result = segzoo_command(*words(user, "--check"))
    assert result.code == 7 and "a partial result" in result.err
    assert "partial: 2 images are here, the published mine val has 3" in result.out


def test_a_folder_can_be_evaluated_and_is_held_to_no_published_figure(segzoo_command, user):
    result = segzoo_command(*words(user, "--dataset", str(user / "mine"), "--save-predictions", str(user / "out")))
    assert result.code == 0 and "mine val" in result.out
    assert sorted(path.name for path in (user / "out").iterdir()) == ["000.png", "001.png", "002.png"]
    other = write_set(user / "other", 1)
    result = segzoo_command(*words(user, "--dataset", str(other), "--check"))
    assert result.code == 7 and "no mIoU is published for other" in result.err


def break_label(user):
    (user / "mine/labels/001.png").unlink()


def break_image(user):
    path = user / "mine/images/001.png"
    path.write_bytes(path.read_bytes()[:-20])


def break_size(user):
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(user / "mine/labels/001.png")


def break_value(user):
    Image.fromarray(np.full((6, 9), 77, np.uint8)).save(user / "mine/labels/001.png")


def empty_folder(user):
    for path in (user / "mine").glob("*/*.png"):
        path.unlink()


def no_folder(user):
    (user / "mine").rename(user / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_label, "1 images have no label in"),
        (break_image, "images/001.png is truncated"),
        (break_size, "differ in size"),
        (break_value, "labels/001.png has the value 77 in 54 pixels"),
        (empty_folder, "mine val is empty"),
        (no_folder, "the data set mine is not here"),
    ],
)
def test_bad_data_are_one_line_and_exit_code_5(segzoo_command, user, damage, said):
    damage(user)
    record = user / "run.json"
    assert said in one_line(segzoo_command(*words(user, "-o", str(record))), 5)
    assert not record.exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--dataset", "mime"], 2, "did you mean 'mine'"),
        (["--split", "test"], 2, "mine has the splits val, not 'test'"),
        (["--protocol", "smal"], 2, "unknown protocol 'smal'; did you mean 'small'"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
        (["--dtype", "tf32"], 2, "tf32 is a format of CUDA devices"),
        (["--data-root", "/nowhere"], 5, "the data set mine is not here"),
        (["--save-predictions", "/dev/null/x"], 2, "cannot write into /dev/null/x: /dev/null is no folder"),
    ],
)
def test_wrong_words_are_one_line_with_the_documented_exit_code(segzoo_command, user, more, code, said):
    assert said in one_line(segzoo_command(*words(user, *more)), code)


def test_published_weights_are_for_as_many_classes_as_they_were_trained_on(segzoo_command, user):
    result = segzoo_command("eval", "tiny-nat", "--dataset", "scenes")
    assert "tiny-nat has 3 classes, scenes has 16; tiny-nat was made for mine" in one_line(result, 2)


def test_a_checkpoint_is_built_for_the_classes_of_the_data_set(segzoo_command, user):
    four = write_set(user / "four", 2, classes=4)
    result = segzoo_command(*words(user, "--dataset", str(four)))
    assert result.code == 4 and "the file has 3 classes, the model 4" in result.err
    from segzoo.registry import create_model

    torch.save(create_model("tiny-nat", num_classes=4).state_dict(), user / "weights.pth")
    result = segzoo_command(*words(user, "--dataset", str(four), "--per-class"))
    assert result.code == 0 and "class 3" in result.out


def test_a_model_without_weights_and_an_unknown_one_are_usage_errors(segzoo_command, user):
    assert "tiny-nat" in one_line(segzoo_command("eval", "tiny-nat"), 2)
    assert "did you mean 'tiny-nat'" in one_line(segzoo_command("eval", "tiny-nut"), 2)


def test_an_interrupted_evaluation_exits_with_130_and_leaves_no_record(segzoo_command, user, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("segzoo.evaluation.loop.predict_and_count", interrupted)
    result = segzoo_command(*words(user, "-o", str(user / "run.json")))
    assert result.code == 130 and result.out == "" and "Traceback" not in result.err
    assert not (user / "run.json").exists()


def test_what_was_done_before_a_failure_is_shown(segzoo_command, user, monkeypatch):
    import segzoo.evaluation

    real = segzoo.evaluation.evaluate_name
    twin = MANIFEST + MANIFEST[MANIFEST.index("  tiny-nat:") :].replace("tiny-nat:", "tiny-two:")
    (user / "zoo.yaml").write_text(twin)
    forget_manifest()

    def second_fails(name, **options):
        if name == "tiny-two":
            break_image(user)
        return real(name, **options)

    monkeypatch.setattr(segzoo.evaluation, "evaluate_name", second_fails)
    result = segzoo_command("eval", "tiny-*", *words(user)[2:])
    assert result.code == 5 and "truncated" in result.err
    assert "tiny-nat" in result.out and "tiny-two" not in result.out
