"""SEGZOO_KERNELS, decided once a process and so tested in processes of their own, and `segzoo kernel`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from neighborhood_cases import require_native
from typer.testing import CliRunner, Result

from segzoo.cli import kernel
from segzoo.errors import ToleranceError, UnavailableError
from segzoo.kernels import reference

REPOSITORY = Path(__file__).resolve().parents[2]
_ATTEND = """
import torch
from segzoo import kernels
from segzoo.errors import SegzooError
try:
    kernels.load()
except SegzooError as error:
    raise SystemExit(error.exit_code)
q = torch.arange(2 * 9 * 4.0).reshape(1, 3, 6, 1, 4)
print(kernels.backend(), len(kernels.notes()), float(kernels.neighborhood_attention_2d(q, q, q, kernel_size=3).sum()))
"""


def _run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _kernel(*words: str) -> Result:
    """`segzoo kernel ...` in this process."""
    return CliRunner().invoke(kernel.app, list(words))


def test_auto_without_a_compiler_warns_once_and_runs_the_reference() -> None:
    result = _run(["-c", _ATTEND], CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[:2] == ["reference", "1"]
    assert result.stderr.count("warning") == 1
    assert "no-such-compiler" in result.stderr


def test_native_without_a_compiler_fails_with_the_code_for_unavailable() -> None:
    assert _run(["-c", _ATTEND], CXX="no-such-compiler", SEGZOO_KERNELS="native").returncode == 6


def test_an_unknown_choice_fails_with_the_code_for_usage() -> None:
    assert _run(["-c", _ATTEND], SEGZOO_KERNELS="fast").returncode == 2


def test_reference_and_native_agree() -> None:
    require_native()
    words = [_run(["-c", _ATTEND], SEGZOO_KERNELS=choice).stdout.split() for choice in ("reference", "native")]
    assert [word[0] for word in words] == ["reference", "native"]
    assert float(words[0][2]) == pytest.approx(float(words[1][2]), rel=1e-6)


def test_check_says_that_forward_and_backward_are_verified() -> None:
    require_native()
    result = _kernel("check")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("kernel: native")
    assert lines[1].startswith("verifying forward ... ok (7 comparisons")
    assert lines[2].startswith("verifying backward ... ok (28 comparisons")
    assert lines[3].startswith("verifying deformable forward ... ok (4 comparisons")
    assert lines[4].startswith("verifying deformable backward ... ok (13 comparisons")
    assert lines[5].startswith("verifying tail ... ok (16 comparisons")
    assert lines[6].startswith("verifying training crop ... ok (8 comparisons")
    assert lines[7].startswith("verifying PNG label ... ok (5 comparisons")


def test_check_fails_when_an_error_is_beyond_its_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    require_native()
    # a kernel that is a millionth wrong: beyond what float64 sums may differ by, within float32's tolerance
    monkeypatch.setattr(reference, "forward", _scaled(reference.forward))
    result = _kernel("check")
    assert isinstance(result.exception, ToleranceError)
    assert "verifying forward ... FAILED" in result.stdout
    assert "float64: output is off by" in result.stdout


def _scaled(forward: Callable) -> Callable:
    def wrong(*arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        output, logsumexp = forward(*arguments)
        return output * (1 + 1e-6), logsumexp

    return wrong


def test_status_compiles_nothing_and_clean_reports_what_it_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path))
    status = json.loads(_kernel("status", "--json").stdout)
    assert status["command"] == "kernel status"
    assert status["conditions"]["compiled"] is False
    assert status["metrics"]["cached_libraries"] == 0
    assert not (tmp_path / "kernels").exists()
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "old.so").write_bytes(b"12345")
    cleaned = json.loads(_kernel("clean", "--json").stdout)
    assert cleaned["metrics"] == {"removed_libraries": 1, "removed_bytes": 5}
    assert list((tmp_path / "kernels").iterdir()) == []


def test_build_reports_the_libraries() -> None:
    require_native()
    run = json.loads(_kernel("build", "--json").stdout)
    assert list(run["conditions"]) == [
        "neighborhood_attention_library",
        "deformable_attention_library",
        "segmentation_tail_library",
        "training_crop_library",
        "png_rows_library",
    ]
    sizes = [Path(library).stat().st_size for library in run["conditions"].values()]
    assert sum(sizes) == run["metrics"]["library_bytes"] > max(sizes) > 0


def test_build_without_a_compiler_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert isinstance(_kernel("build").exception, UnavailableError)
