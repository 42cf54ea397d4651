"""Trainings as a whole: they learn, can be interrupted anywhere, and come out the same in parts and processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch

from segzoo.processes.endings import InterruptedRunError, NotFiniteError
from segzoo.results import read_run
from segzoo.training.checkpoints import checkpoint_path, checkpoints, read_checkpoint
from segzoo.training.named import recipe_for, train_name
from segzoo.training.run import Options
from segzoo.training.settled_batch_norm import settle

ROOT = Path(__file__).resolve().parents[2]


def options(work_dir: Path, pictures: Path, **words) -> Options:
    default = {"workers": 0, "device": "cpu", "log_every": 1, "save_every": 2, "evaluate_every": 0, "quiet": True}
    return Options(**(default | {"work_dir": work_dir, "dataset": pictures} | words))


def weights(work_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(work_dir / "model.pt", weights_only=True)["model"]


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def log(work_dir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (work_dir / "log.jsonl").read_text().splitlines()]
    clocks = ("images_per_second", "evaluation_seconds")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pictures):
    """A run of 8 iterations without any interruption."""
    work_dir = tmp_path_factory.mktemp("whole")
    return train_name("tiny", recipe_for("tiny"), options(work_dir, pictures)), work_dir


def test_a_run_leaves_log_weights_pictures_and_record(whole):
    run, work_dir = whole
    assert [line["iteration"] for line in log(work_dir)] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert all(line["loss"] > 0 and line["lr"] > 0 for line in log(work_dir)[:-1])
    assert run.metrics["miou_percent"] == log(work_dir)[-1]["miou_percent"]
    assert run.conditions["accumulate"] == 1 and run.conditions["pictures"] == 10
    assert read_run(work_dir / "record.json").metrics == run.metrics
    assert len(run.breakdown["class"]) == 3
    assert (work_dir / "pictures" / "iteration-00000008.png").stat().st_size > 1000
    assert [path.name for path in checkpoints(work_dir)] == ["checkpoint-00000008.pt", "checkpoint-00000006.pt"]
    assert (work_dir / "best.pt").exists() and not list(work_dir.glob(".*.pt.*"))


def test_a_network_learns_the_colours_of_three_classes(tmp_path, pictures):
    recipe = recipe_for("tiny", iterations=60, batch_size=8)
    run = train_name("tiny", recipe, options(tmp_path, pictures, evaluate_every=-1))
    losses = [line["loss"] for line in log(tmp_path) if "loss" in line]
    assert sum(losses[-5:]) < 0.65 * sum(losses[:5])
    assert run.metrics["miou_percent"] is None


@pytest.mark.parametrize("kill_after", [1, 3, 8])
def test_a_run_stopped_by_a_signal_ends_with_the_same_bits(tmp_path, pictures, whole, kill_after, monkeypatch):
    from segzoo.training import journal

    step = journal.Journal.step

    def stop_there(self, iteration, *rest):
        step(self, iteration, *rest)
        if iteration == kill_after:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(journal.Journal, "step", stop_there)
    with pytest.raises(InterruptedRunError) as ending:
        train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))
    assert ending.value.exit_code == 143
    monkeypatch.undo()
    train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))
    assert same(tmp_path, whole[1])
    assert log(tmp_path) == log(whole[1])


def test_a_half_written_checkpoint_is_passed_over(tmp_path, pictures, whole):
    train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))
    newest = checkpoint_path(tmp_path, 8)
    newest.write_bytes(newest.read_bytes()[:-500])
    (tmp_path / ".checkpoint-00000009.pt.x7").write_bytes(b"PK")
    (tmp_path / "model.pt").unlink()
    train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))
    assert same(tmp_path, whole[1])
    assert not list(tmp_path.glob(".checkpoint*"))


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path, pictures, whole):
    train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))
    newest = checkpoint_path(tmp_path, 8)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))
    assert same(tmp_path, whole[1])


def test_parts_of_a_batch_give_the_same_training_up_to_rounding(tmp_path, pictures):
    for name, per_device in (("one", 4), ("parts", 2)):
        words = {"per_device": per_device, "evaluate_every": -1}
        train_name("tiny-plain", recipe_for("tiny", iterations=4), options(tmp_path / name, pictures, **words))
    first, second = weights(tmp_path / "one"), weights(tmp_path / "parts")
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_a_loss_that_is_no_number_names_iteration_pictures_and_checkpoint(tmp_path, pictures, monkeypatch):
    from segzoo.training import segmentation

    honest, calls = segmentation.weighted_losses, []

    def spoilt(*inputs, **words):
        calls.append(1)
        losses = honest(*inputs, **words)
        return {name: loss * float("nan") for name, loss in losses.items()} if len(calls) == 4 else losses

    monkeypatch.setattr(segmentation, "weighted_losses", spoilt)
    with pytest.raises(NotFiniteError, match=r"nan in iteration 4, with the images 00.*checkpoint-00000002\.pt"):
        train_name("tiny", recipe_for("tiny"), options(tmp_path, pictures))


def norm_statistics(content: dict) -> dict[str, torch.Tensor]:
    return {key: value for key, value in content["model"].items() if key.endswith(("running_mean", "running_var"))}


def test_settled_batch_norms_keep_their_statistics_and_a_cut_run_has_the_same_bits(tmp_path, pictures):
    recipe = msgspec.structs.replace(recipe_for("tiny"), settled_batch_norm=0.5)
    words = {"save_every": 1, "keep": 9, "evaluate_every": 4}
    train_name("tiny", recipe, options(tmp_path / "whole", pictures, **words))
    saved = {number: read_checkpoint(checkpoint_path(tmp_path / "whole", number)) for number in (4, 5, 8)}
    before, after, end = (norm_statistics(saved[number]) for number in (4, 5, 8))
    assert before.keys() == end.keys() != set()
    assert all(torch.equal(after[key], end[key]) for key in end)
    assert not any(torch.equal(before[key], end[key]) for key in end)
    for kept in (3, 4, 6):
        folder = tmp_path / f"cut{kept}"
        folder.mkdir()
        shutil.copy(checkpoint_path(tmp_path / "whole", kept), folder)
        train_name("tiny", recipe, options(folder, pictures, **words))
        assert same(folder, tmp_path / "whole")


def test_settled_statistics_are_the_averages_over_the_batches():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout(0.5))
    images = [torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    settle(model, model, images)
    means = torch.stack([image.mean((0, 2, 3)) for image in images])
    variances = torch.stack([image.var((0, 2, 3)) for image in images])
    torch.testing.assert_close(model[0].running_mean, means.mean(0))
    torch.testing.assert_close(model[0].running_var, variances.mean(0))
    assert model[0].momentum == 0.1


def start(work_dir: Path, pictures: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "segzoo", "train", "tiny", "--dataset", str(pictures), "--work-dir", str(work_dir)]
    command += ["--device", "cpu", "--log-every", "1", "--save-every", "2", "--eval-every", "0", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, words = process.communicate(timeout=120)
    return process.returncode, words


def wait_for(process: subprocess.Popen, work_dir: Path, iteration: int) -> None:
    """Returns when the log has the iteration, or the process has ended."""
    path = work_dir / "log.jsonl"
    while process.poll() is None and not (path.exists() and f'"iteration": {iteration},' in path.read_text()):
        time.sleep(0.02)


def children(process: subprocess.Popen) -> list[Path]:
    """The reading processes of a training, as folders of /proc that vanish with them."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [Path("/proc", number) for file in threads for number in file.read_text().split()]


def gone(folder: Path, *, within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not folder.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the reading processes in /proc")
@pytest.mark.parametrize(
    ("number", "code", "points"),
    # The first point of SIGKILL lies before the first checkpoint, the second between two, the third on one.
    [(signal.SIGTERM, 143, (5,)), (signal.SIGINT, 130, (5,)), (signal.SIGKILL, -9, (1, 7, 16))],
)
def test_the_command_killed_with_its_workers_continues_to_the_same_bits(tmp_path, pictures, number, code, points):
    words = ("--iterations", "30", "-j", "2")
    assert finish(start(tmp_path / "whole", pictures, *words))[0] == 0
    for point in points:
        process = start(tmp_path / "cut", pictures, *words)
        wait_for(process, tmp_path / "cut", point)
        readers = children(process)
        process.send_signal(number)
        assert finish(process)[0] == code
        assert len(readers) >= 2 and all(gone(reader) for reader in readers)
    ending, said = finish(start(tmp_path / "cut", pictures, *words))
    assert ending == 0 and "continues from" in said
    assert same(tmp_path / "whole", tmp_path / "cut")
    assert log(tmp_path / "whole") == log(tmp_path / "cut")


@pytest.mark.slow
def test_two_processes_train_as_one_does_up_to_rounding(tmp_path, pictures):
    words = ("--recipe", "tiny-sgd", "-j", "0", "--dtype", "fp32", "--eval-every", "-1")
    runs = {"one": words, "two": (*words, "--nproc", "2")}
    for name, extra in runs.items():
        code, said = finish(start(tmp_path / name, pictures, *extra))
        assert code == 0, said
    one, two = (log(tmp_path / name) for name in runs)
    assert [line["loss"] for line in one[:4]] == pytest.approx([line["loss"] for line in two[:4]], rel=1e-5)
    assert [line["grad_norm"] for line in one[:4]] == pytest.approx([line["grad_norm"] for line in two[:4]], rel=1e-4)
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.slow
def test_two_processes_stop_together_and_continue(tmp_path, pictures):
    words = ("--iterations", "20", "-j", "1", "--nproc", "2")
    process = start(tmp_path, pictures, *words)
    wait_for(process, tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 143 and said.count("stopped after iteration") == 1, said
    assert finish(start(tmp_path, pictures, *words))[0] == 0
    assert [line["iteration"] for line in log(tmp_path)][:20] == list(range(1, 21))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--crop", "200000x200000"), 1, "a step on 2 images of 200000x200000 needs"),
        (("--data-root", "/nowhere", "--dataset", "camvid"), 5, "the data set camvid is not here"),
        (("--recipe", "tinny"), 2, "there is no recipe 'tinny'"),
        (("--batch-size", "3"), 2, "a batch of 3 does not divide by 2 processes"),
    ],
)
def test_of_two_processes_that_cannot_begin_one_says_why(tmp_path, pictures, words, code, reason):
    ending, said = finish(start(tmp_path, pictures, "--nproc", "2", *words))
    lines = [line for line in said.splitlines() if not line.startswith(("compil", "W"))]
    assert ending == code and len(lines) == 1 and lines[0].startswith(f"segzoo: error: {reason}"), said
