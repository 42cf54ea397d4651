"""The trial of kernels on a GPU before they are used: what a child says, how it ends, and the marks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from neighborhood_cases import require_native

from segzoo.errors import UnavailableError
from segzoo.kernels import native, sources, trial
from segzoo.kernels.check import Finding

CHILD = """
import json, os, signal, sys
_, device, *names = sys.argv
for name in names:
    if name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "raises":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    print(json.dumps({"operator": name, "wrong": "output is off" if name == "wrong" else ""}), flush=True)
"""


def finding(error: float) -> Finding:
    return Finding(part="forward", case="a map", result="output", error=error, tolerance=1e-3)


def test_a_crash_is_put_down_to_the_operator_it_happened_in_and_the_others_are_tried_all_the_same() -> None:
    names = ["good", "crashes", "wrong", "raises", "fine"]
    assert trial.try_out(names, "cuda", child=(sys.executable, "-c", CHILD)) == {
        "crashes": "their trial ended in signal 11",
        "wrong": "output is off",
        "raises": "their trial ended in RuntimeError: CUDA error: an illegal memory access was encountered",
    }


def test_a_child_that_finds_no_room_on_the_device_says_nothing_of_the_kernels() -> None:
    assert trial.try_out(["good"], "cuda", child=(sys.executable, "-c", "")) == {}


def test_a_trial_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATIENCE_S", 1.5)
    slow = "import json, time; print(json.dumps({'operator': 'good', 'wrong': ''}), flush=True); time.sleep(60)"
    wrong = trial.try_out(["good", "hangs"], "cuda", child=(sys.executable, "-c", slow))
    assert wrong == {"hangs": "their trial did not end within 2 s"}


@pytest.mark.parametrize(("error", "passes"), [(0.0, True), (2e-3, True), (2e-2, False), (float("nan"), False)])
def test_only_what_is_far_out_of_tolerance_is_wrong(error: float, passes: bool) -> None:
    assert (trial.verdict(iter([finding(0.0), finding(error)])) == "") == passes


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_the_child_compares_the_kernels_and_says_what_it_found(off: float, capsys: pytest.CaptureFixture[str]) -> None:
    require_native()

    def judge(name: str, device: str) -> Iterator[Finding]:
        findings = list(trial.judge(name, device))
        assert len(findings) >= 7
        yield from findings
        yield finding(off)

    trial.main(["cpu", "deformable_attention"], judge)
    said = json.loads(capsys.readouterr().out)
    assert said["operator"] == "deformable_attention"
    assert said["wrong"] == ("forward of a map: output is off by 1.00e+00, tolerance 1.00e-03" if off else "")


def test_every_cuda_operator_has_a_trial() -> None:
    for operator in sources.operators("cuda"):
        assert next(trial.judge(operator.name, "cpu")).within


def test_what_passed_is_tried_once_on_each_model_of_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def try_out(names: list[str], device: str) -> dict[str, str]:
        asked.append(list(names))
        return {"bad": "output is off"} if "bad" in names else {}

    monkeypatch.setattr(trial, "try_out", try_out)
    libraries = {name: tmp_path / f"{name}-0123.so" for name in ("good", "bad")}
    for model in ("NVIDIA H200", "NVIDIA H200", "NVIDIA A100"):
        assert trial.rejected(libraries, "cuda", model) == {"bad": "output is off"}
    assert asked == [["good", "bad"], ["bad"], ["good", "bad"]]
    assert sorted(path.name for path in tmp_path.glob("*.tried")) == [
        "good-0123.nvidia-a100.tried",
        "good-0123.nvidia-h200.tried",
    ]


def test_where_the_cache_cannot_be_written_to_kernels_are_tried_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "try_out", lambda names, device: {"bad": "output is off"})
    (tmp_path / "file").touch()
    libraries = {
        name: tmp_path / "file" / f"{name}-0123.so" for name in ("good", "bad")
    }  # no folder: nothing is written
    assert trial.rejected(libraries, "cuda", "NVIDIA H200") == {"bad": "output is off"}


def test_rejected_kernels_give_way_to_the_reference_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(native, "_state", native._State())
    monkeypatch.setattr(native, "build", lambda operator, notes: tmp_path / f"{operator.library}.so")
    monkeypatch.setattr(native, "load_library", lambda operator: loaded.append(operator.name))
    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(native.torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(trial, "try_out", lambda names, device: {"segmentation_tail": "labels are off"})
    monkeypatch.setenv("SEGZOO_KERNELS", "auto")
    assert native.load("cuda") == "reference"
    assert loaded == ["neighborhood_attention", "deformable_attention"]
    words = capsys.readouterr().err
    assert "trying the kernels on this NVIDIA H200 (once)" in words
    assert "run on the slow reference kernels: labels are off; SEGZOO_KERNELS=native uses them as they are" in words
    assert native.notes() == [
        "the evaluation tail on CUDA run on the slow reference kernels: labels are off; "
        "SEGZOO_KERNELS=native uses them as they are"
    ]


def test_who_asks_for_native_kernels_gets_them_without_a_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(native, "_state", native._State())
    monkeypatch.setattr(native, "load_library", lambda operator: loaded.append(operator.name))
    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trial, "try_out", lambda names, device: pytest.fail("there was a trial"))
    monkeypatch.setenv("SEGZOO_KERNELS", "native")
    native.load("cuda")
    assert len(loaded) == 3


def test_an_operator_that_cannot_be_compiled_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(operator: sources.Operator, notes: list[str]) -> Path:
        raise UnavailableError("no nvcc")

    monkeypatch.setattr(native, "build", build)
    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: True)
    assert native._rejected(sources.operators("cuda"), "auto") == {}
