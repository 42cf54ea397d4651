"""An evaluation by several processes over gloo is that of one: every image once, equal to the last integer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from colour_model import AS_STORED, ColourModel, write_set

from segzoo.data import open_dataset
from segzoo.evaluation import evaluate

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("share_worker.py")


def break_image(root: Path, name: str) -> None:
    path = root / "images" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:-20])


def run_workers(size: int, *words: object) -> list[int]:
    """Runs the worker in `size` processes with the variables that torchrun sets; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **shared, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(WORKER), *map(str, words)]
    processes = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(size)]
    try:
        return [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_count_what_one_counts_each_image_once(tmp_path, size):
    folder, broken = write_set(tmp_path / "whole", 7), write_set(tmp_path / "broken", 6)
    break_image(broken, "003")
    assert run_workers(size, folder, broken, tmp_path / "answer.json") == [0] * size
    answer = json.loads((tmp_path / "answer.json").read_text())
    # 7 images do not divide by 2 or 3, and one image is fewer than there are processes.
    for place, limit in enumerate((7, 1, 5)):
        words = {"boundary": True, "calibration": True, "limit": limit}
        alone = json.loads(evaluate(ColourModel(3), open_dataset(folder), AS_STORED, **words).to_json())
        together = answer["runs"][place]
        assert together["breakdown"] == alone["breakdown"]
        speed = {"images_per_second"}
        assert {key: value for key, value in together["metrics"].items() if key not in speed} == {
            key: value for key, value in alone["metrics"].items() if key not in speed
        }
        assert (together["status"], together["notes"]) == (alone["status"], alone["notes"])
        assert (together["conditions"]["processes"], alone["conditions"]["processes"]) == (size, 1)
        names = [name for shares in answer["shares"] for name in shares[place]]
        assert sorted(names) == [f"{index:03d}" for index in range(limit)]
    assert len(set(answer["errors"])) == 1 and len(answer["errors"]) == size
    assert answer["errors"][0].startswith("DatasetError: ") and "images/003.png is truncated" in answer["errors"][0]


def test_the_others_name_a_process_that_died_and_stop(tmp_path):
    folder = write_set(tmp_path / "whole", 7)
    codes = run_workers(2, folder, "dying", tmp_path / "answer.txt")
    assert codes == [0, -signal.SIGKILL]
    said = (tmp_path / "answer.txt").read_text()
    assert said.startswith("PeerLostError: process 1 of 2 (at work on 00"), said


def start(home: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "segzoo", "eval", "nat-pico", "--limit", "16", "--device", "cpu", "--json", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SEGZOO_HOME": str(home)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out, err


def lines_kept(home: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in home.glob("evaluations/*/images-*.jsonl"))


def stop_after_some(process: subprocess.Popen, home: Path, number: int, *, child: int | None = None) -> None:
    while process.poll() is None and lines_kept(home) < 3:
        time.sleep(0.02)
    if child is None:
        process.send_signal(number)
    else:
        listed = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True)
        os.kill(int(listed.stdout.split()[child]), number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process counts that is left alone, and a cache with the kernels of all tests."""
    home = tmp_path_factory.mktemp("home")
    kernels = Path(os.environ["SEGZOO_HOME"]) / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    (home / "kernels").symlink_to(kernels)
    code, out, err = finish(start(home))
    assert code == 0, err
    assert not list((home / "evaluations").glob("*-*"))
    return home, json.loads(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "child", "code", "said"),
    [
        (signal.SIGTERM, None, 143, "segzoo: interrupted; the images that are done are kept"),
        (signal.SIGINT, None, 130, "segzoo: interrupted; the images that are done are kept"),
        (signal.SIGKILL, 0, 137, "segzoo: error: process 0 of 2 was ended by SIGKILL (out of memory?) at work on "),
        (signal.SIGSEGV, 1, 139, "segzoo: error: process 1 of 2 was ended by SIGSEGV at work on "),
    ],
)
def test_two_processes_end_together_and_three_or_one_go_on_to_the_same_record(whole, number, child, code, said):
    home, record = whole
    process = start(home, "--nproc", "2")
    stop_after_some(process, home, number, child=child)
    ended, out, err = finish(process)
    assert (ended, out) == (code, "") and err.startswith(said) and len(err.splitlines()) == 1, err
    kept = lines_kept(home)
    assert kept >= 3
    code, out, err = finish(start(home, "--resume", *(["--nproc", "3"] if child is None else [])))
    assert code == 0, err
    resumed = json.loads(out)
    assert resumed["breakdown"] == record["breakdown"]
    assert resumed["metrics"]["miou_percent"] == record["metrics"]["miou_percent"]
    assert resumed["conditions"]["resumed_images"] == kept
    assert lines_kept(home) == 0


@pytest.mark.slow
def test_torchrun_starts_the_processes_too(whole):
    home, record = whole
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "segzoo"]
    command += ["eval", "nat-pico", "--limit", "16", "--device", "cpu", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SEGZOO_HOME": str(home)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    together = json.loads(result.stdout)
    assert together["breakdown"] == record["breakdown"] and together["conditions"]["processes"] == 2
