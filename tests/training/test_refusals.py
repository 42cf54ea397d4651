"""What cannot work is said in one line before the first iteration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from segzoo.cli.app import app
from segzoo.errors import DatasetError, IntegrityError, NetworkError, SegzooError, UsageError
from segzoo.registry import create_model
from segzoo.training import checks
from segzoo.training.checkpoints import read_checkpoint, save_atomically
from segzoo.training.initialisation import initial_model
from segzoo.training.named import recipe_for, train_name
from segzoo.training.plan import images_per_device
from segzoo.training.run import Options


def options(work_dir: Path, pictures: Path, **words) -> Options:
    default = {"workers": 0, "device": "cpu", "evaluate_every": -1, "quiet": True}
    return Options(**(default | {"work_dir": work_dir, "dataset": pictures} | words))


def test_a_wrong_data_root(tmp_path):
    with pytest.raises(DatasetError, match="camvid is not here"):
        train_name("tiny", recipe_for("tiny"), options(tmp_path / "run", "camvid", data_root=tmp_path))


def test_a_batch_that_does_not_divide():
    assert images_per_device(16, 2, 4) == 4 and images_per_device(16, 8, None) == 2
    with pytest.raises(UsageError, match="16 does not divide by 3 processes"):
        images_per_device(16, 3, None)
    with pytest.raises(
        UsageError, match="8 images of 16 for each process: not a multiple of --per-device 3; these fit: 1, 2, 4, 8"
    ):
        images_per_device(16, 2, 3)


def test_a_crop_larger_than_the_memory(tmp_path, pictures):
    recipe = recipe_for("tiny", crop=(200000, 200000))
    with pytest.raises(SegzooError, match=r"a step on 4 images of 200000x200000 needs \d+\.\d GiB or more") as refused:
        train_name("tiny", recipe, options(tmp_path, pictures))
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="at least 32"):
        train_name("tiny", recipe_for("tiny", crop=(16, 64)), options(tmp_path, pictures))


def test_a_work_directory_in_use(tmp_path, pictures):
    with FileLock(tmp_path / ".lock"):
        code = (
            "from pathlib import Path; from segzoo.training.checkpoints import sole_user\n"
            f"with sole_user(Path({str(tmp_path)!r})): pass"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UsageError: the work directory" in result.stderr and "in use by another run" in result.stderr


def test_another_run_in_the_work_directory(tmp_path, pictures):
    train_name("tiny", recipe_for("tiny", iterations=2), options(tmp_path, pictures))
    with pytest.raises(UsageError, match=r"holds a run with lr 0.01 \(now 0.5\)"):
        train_name("tiny", recipe_for("tiny", iterations=2, lr=0.5), options(tmp_path, pictures))
    with pytest.raises(UsageError, match="--resume no"):
        train_name("tiny", recipe_for("tiny", iterations=2), options(tmp_path, pictures, resume="no"))


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    model = create_model("tiny")
    checks.check_disk(tmp_path / "not" / "there", model, "adamw", 2)
    usage = checks.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SegzooError, match="has 0 MiB free, but 3 checkpoints need"):
        checks.check_disk(tmp_path, model, "adamw", 2)


def test_a_disk_that_fills_up_leaves_the_old_file_and_no_rest(tmp_path):
    save_atomically(tmp_path / "a.pt", {"format": 1, "value": 1})
    code = (
        "import resource, signal, torch; from pathlib import Path\n"
        "from segzoo.training.checkpoints import save_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        f"save_atomically(Path({str(tmp_path / 'a.pt')!r}), {{'format': 1, 'value': torch.zeros(10**6)}})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "SegzooError: cannot write" in result.stderr and "the checkpoints before it are whole" in result.stderr
    assert "the disk is full or a limit on the size of files is reached" in result.stderr
    assert read_checkpoint(tmp_path / "a.pt")["value"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_checkpoint_that_is_none(tmp_path, pictures):
    for name, content in (("text.pt", b"hello"), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(IntegrityError, match="no whole checkpoint"):
            read_checkpoint(tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(IntegrityError, match="not a checkpoint of `segzoo train`"):
        train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures, resume=str(tmp_path / "other.pt")))
    with pytest.raises(UsageError, match=r"--resume .*absent\.pt: neither a file nor one of auto, no"):
        train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures, resume=str(tmp_path / "absent.pt")))


def test_other_classes_than_the_checkpoints_begin_anew_only_when_asked(tmp_path):
    path = tmp_path / "five.pt"
    torch.manual_seed(0)
    five = create_model("tiny", num_classes=5)
    torch.save({"state_dict": five.state_dict()}, path)
    with pytest.raises(UsageError, match=r"the file has 5 classes, the model 3 \(3 in the data set\); --reset-class"):
        initial_model("tiny", str(path), num_classes=3)
    model, words = initial_model("tiny", str(path), num_classes=3, reset_classifier=True)
    assert "begin anew: decode_head.conv_seg.weight, decode_head.conv_seg.bias" in words
    assert model.decode_head.conv_seg.out_channels == 3
    for key, value in model.state_dict().items():
        assert "conv_seg" in key or torch.equal(value, five.state_dict()[key])
    same, words = initial_model("tiny", str(path), num_classes=5)
    assert torch.equal(same.decode_head.conv_seg.weight, five.decode_head.conv_seg.weight)


def test_a_file_with_a_backbone_alone_begins_the_backbone(tmp_path):
    torch.manual_seed(0)
    backbone = create_model("tiny").backbone
    torch.save({"model": backbone.state_dict()}, tmp_path / "backbone.pt")
    torch.manual_seed(1)
    model, words = initial_model("tiny", str(tmp_path / "backbone.pt"), num_classes=3)
    assert "backbone from" in words
    for key, value in backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value)


def test_weights_that_are_no_file(tmp_path):
    with pytest.raises(UsageError, match="neither a file nor one of auto, scratch, backbone, pretrained"):
        initial_model("tiny", "pretraned", num_classes=3)


def test_published_weights_that_cannot_be_had_name_the_ways_without(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path))
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    for init in ("auto", "backbone"):
        with pytest.raises(NetworkError, match="or --init FILE with a copy of your own, or --init scratch"):
            initial_model("swin-tiny", init, num_classes=3)


def test_a_recipe_that_does_not_exist():
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        recipe_for("tiny", "tinny")
    with pytest.raises(UsageError, match=r"impossible lr -1"):
        recipe_for("tiny", lr=-1.0)


def test_a_picture_that_is_cut_off_stops_the_run_with_its_name(tmp_path):
    from tiny_training import make_pictures

    folder = make_pictures(tmp_path / "data", train=4)
    broken = folder / "images" / "train" / "002.png"
    broken.write_bytes(broken.read_bytes()[:100])
    for workers in (0, 1):
        with pytest.raises(DatasetError, match=r"002\.png is truncated") as refused:
            train_name("tiny", recipe_for("tiny"), options(tmp_path / f"run{workers}", folder, workers=workers))
        assert "\n" not in str(refused.value)


def test_the_command_knows_its_options():
    result = CliRunner().invoke(app, ["train", "--help"])
    assert result.exit_code == 0
    for word in ("--resume", "--nproc", "--init", "--activation-checkpointing", "--reset-classifier"):
        assert word in result.output
