"""The benchmark on a GPU: what it says without one, that a failing section does not stop the others, a rehearsal."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from segzoo import kernels
from segzoo.cli import kernel
from segzoo.errors import SegzooError, UnavailableError, UsageError
from segzoo.kernel_bench import cuda_run, cuda_sections
from segzoo.report.kernel_bench import text_of

CPU = torch.device("cpu")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.sh"


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_run, "_prepare", lambda place: None)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UnavailableError, match="no device 'cuda'"):
        cuda_run.bench_cuda()
    with pytest.raises(UsageError, match="did you mean 'cuda-neighborhood-forward'"):
        cuda_run.bench_cuda(["cuda-neighbourhood-forward"])


def test_a_section_that_ends_with_an_error_is_a_row_and_the_record_goes_on(
    no_compiling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "machine": ({"metrics": {"copy_bytes_per_second": 1e9}}, None, 1.0),
        "cuda-deformable-forward": (None, "RuntimeError: an illegal memory access", 2.0),
        "cuda-deformable-backward": ({"check": [_check(within=False), _check(within=True)]}, None, 3.0),
    }
    monkeypatch.setattr(cuda_run, "_section", lambda name, *_: answers[name])
    run = cuda_run.bench_cuda(["cuda-deformable-*"], rehearse=True)
    assert [row["status"] for row in run.breakdown["section"]] == ["ok", "failed", "failed"]
    assert run.breakdown["section"][1]["error"] == "RuntimeError: an illegal memory access"
    assert run.breakdown["section"][2]["error"] == "1 comparisons out of tolerance, first: part, case, result"
    assert run.status == "partial" and run.metrics["sections_failed"] == 2
    assert "1 of 2 within" in text_of(run) and "copy 1.0 GB/s" in text_of(run)


def _check(*, within: bool) -> dict[str, object]:
    return {"part": "part", "case": "case", "result": "result", "error": 1.0, "tolerance": 0.5, "within": within}


def test_a_process_that_fails_or_hangs_gives_its_last_line() -> None:
    found, error, _ = cuda_run._section("no-such-section", CPU, True, 120)
    assert found is None and error == "KeyError: 'no-such-section'"
    found, error, _ = cuda_run._section("machine", CPU, True, 3)
    assert (found, error) == (None, "no time was left for it")


def test_a_section_says_its_error_in_one_line_after_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(device: torch.device, quick: bool) -> dict[str, object]:
        raise RuntimeError("backend='inductor' raised:\nout of resources\nmore")

    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    monkeypatch.setitem(cuda_sections.SECTIONS, "machine", cuda_sections.Section(run=fail, limit_s=60))
    assert cuda_sections.main(["machine", "cpu", "quick", str(tmp_path / "found.json")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "RuntimeError: backend='inductor' raised: out of resources"


def test_what_the_sections_load_is_compiled_before_and_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(cuda_run, "build", lambda operator, notes: built.append(operator.library))
    # On a GPU a first `load` may judge the kernels; a benchmark has to say itself what is wrong with them.
    monkeypatch.setattr(kernels, "load", lambda *_: pytest.fail("loaded"))
    cuda_run._prepare(torch.device("cuda"))
    libraries = ["neighborhood_attention_cuda", "deformable_attention_cuda", "segmentation_tail_cuda"]
    assert built == [*libraries, "rivals_cuda"]


def test_a_rehearsal_of_a_row_makes_no_claim(tmp_path: Path) -> None:
    if kernels.load() != "native":
        pytest.skip(f"no compiled kernel here: {kernels.notes()}")
    file = tmp_path / "record.json"
    words = ["bench", "--device", "cuda", "--rehearse", "cuda-deformable-forward", "-o", str(file), "--quiet"]
    result = CliRunner().invoke(kernel.app, words)
    assert result.exit_code == 0, result.output
    record = json.loads(file.read_text())
    assert record["breakdown"]["claim"] == [] and record["status"] == "partial"
    assert [row["status"] for row in record["breakdown"]["section"]] == ["ok", "ok"]
    assert record["breakdown"]["case"][0]["row"] == "cuda-deformable-forward"


def test_failed_sections_end_the_command_with_one_line(no_compiling: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_run, "_section", lambda *_: (None, "it failed", 0.0))
    result = CliRunner().invoke(
        kernel.app, ["bench", "--device", "cuda", "--rehearse", "cuda-deformable-forward", "-q"]
    )
    assert isinstance(result.exception, SegzooError)
    assert "2 of 2 sections failed" in str(result.exception)


def test_the_script_reads_its_words() -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    result = subprocess.run([SCRIPT, "-o"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "-o needs a file" in result.stderr
