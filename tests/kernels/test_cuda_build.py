"""The builder for CUDA: finding nvcc, keys, failures. An nvcc of ours stands in, but for the test of the real one."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segzoo import paths
from segzoo.errors import UnavailableError, UsageError
from segzoo.kernels import build as builder
from segzoo.kernels import cuda_toolchain, native, toolchain
from segzoo.kernels.cuda_toolchain import CudaToolchain, compile_flags, parse_architectures
from segzoo.kernels.sources import Operator, Unit

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = Operator(name="tiny", title="tiny", units=(Unit(source="tiny.cu", name="tiny"),), device="cuda")
SOURCE = """
__global__ void twice(float* values) { values[threadIdx.x] *= FACTOR; }
extern "C" __attribute__((visibility("default"))) int run(float* values) {
  twice<<<1, 32>>>(values);
  return cudaGetLastError();
}
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    (tmp_path / "csrc" / "tiny").mkdir(parents=True)
    (tmp_path / "csrc" / "tiny" / "tiny.cu").write_text(SOURCE)
    monkeypatch.setattr(paths, "kernel_sources", lambda: tmp_path / "csrc")
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NVCC_CCBIN", raising=False)
    monkeypatch.setattr(builder, "_failures", {})


@pytest.fixture
def fake_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvcc in CUDA_HOME, of torch's CUDA version, that says `message` and fails."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return write_nvcc(tmp_path, monkeypatch, "V13.0.88", "fatal: no such thing")


def write_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, message: str) -> Path:
    program = tmp_path / "cuda" / "bin" / "nvcc"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f"#!/bin/sh\ncase \"$1\" in --version) echo 'release 0.0, {version}'; exit;;"
        f" --list-gpu-arch) echo compute_75 compute_80 compute_90 compute_100; exit;; esac\n"
        f"echo '{message}'; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    cuda_toolchain.nvcc_version.cache_clear()
    return program


def key(operator: Operator = TINY, architectures: tuple[str, ...] = ("80",)) -> str:
    return builder.build_key(operator, toolchain.find_toolchain("cuda", architectures))


def test_the_real_nvcc_compiles_for_two_architectures_and_the_library_loads() -> None:
    try:
        toolchain.find_toolchain("cuda", ("80", "90"))
    except UnavailableError as error:
        pytest.skip(str(error))
    operator = dataclasses.replace(TINY, defines=("FACTOR=3",))
    library = builder.build(operator, [], architectures=("80", "90"))
    assert library.name.startswith("tiny_cuda-")
    assert ctypes.CDLL(str(library)).run is not None
    assert builder.build(operator, [], architectures=["90,8.0"]) == library
    with pytest.raises(UnavailableError, match=r"compiling tiny with nvcc .* failed:\n(?s:.*)FACTOR"):
        builder.build(TINY, [], architectures=("80",))


def test_nvcc_is_looked_for_in_cuda_home_first(fake_nvcc: Path) -> None:
    tools = toolchain.find_toolchain("cuda", ("80",))
    assert tools.cuda is not None
    assert (tools.cuda.nvcc, tools.cuda.version) == (str(fake_nvcc), "13.0.88")


def test_key_follows_architectures_nvcc_and_defines(
    fake_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key(), key(architectures=("80", "90"))]
    keys.append(key(dataclasses.replace(TINY, defines=("FACTOR=3",))))
    write_nvcc(tmp_path, monkeypatch, "V13.0.99", "")
    keys.append(key())
    monkeypatch.setenv("NVCC_CCBIN", "/usr/bin/some-g++")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    # The processor has no part in what runs on the GPU.
    monkeypatch.setattr(toolchain, "cpu_features", lambda: "none")
    assert key() == keys[-1]


def test_a_failure_keeps_the_compilers_last_lines(fake_nvcc: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"with nvcc 13\.0\.88 with .*g\+\+ for sm_90 failed:\n(?s:.*)no such thing"
    ):
        builder.build(TINY, [], architectures=("90",))


def test_a_compiler_that_nvcc_does_not_take_is_named_in_the_first_line(
    fake_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nvcc(tmp_path, monkeypatch, "V13.0.88", "error: -- unsupported GNU version! gcc versions later than 15")
    with pytest.raises(UnavailableError) as caught:
        builder.build(TINY, [], architectures=("90",))
    first, *rest = str(caught.value).splitlines()
    assert "does not take" in first and "set NVCC_CCBIN to an older C++ compiler" in first
    assert any("unsupported GNU version" in line for line in rest)


def test_another_cuda_than_torchs_is_refused(fake_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_nvcc(tmp_path, monkeypatch, "V12.4.131", "")
    monkeypatch.setattr(cuda_toolchain, "_candidates", lambda: iter([str(other)]))
    with pytest.raises(UnavailableError, match=r"of CUDA 12\.4\.131, torch of CUDA 13\.0.*CUDA_HOME"):
        builder.build(TINY, [], architectures=("80",))


def test_of_several_toolkits_the_one_of_torchs_cuda_is_taken(
    fake_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_nvcc(tmp_path / "other", monkeypatch, "V12.4.131", "")
    monkeypatch.setattr(cuda_toolchain, "_candidates", lambda: iter([str(other), str(fake_nvcc)]))
    tools = toolchain.find_toolchain("cuda", ("80",))
    assert tools.cuda is not None
    assert (tools.cuda.nvcc, tools.cuda.version) == (str(fake_nvcc), "13.0.88")


def test_no_nvcc_and_no_cuda_in_torch_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_toolchain, "_candidates", lambda: iter(()))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(UnavailableError, match=r"no nvcc in CUDA_HOME.*toolkit 13\.0.*SEGZOO_KERNELS=reference"):
        builder.build(TINY, [], architectures=("80",))
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UnavailableError, match="built without CUDA"):
        builder.build(TINY, [], architectures=("80",))


def test_without_a_device_architectures_must_be_named(fake_nvcc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UnavailableError, match="no CUDA device to compile for; name architectures with --cuda-arch"):
        builder.build(TINY, [])


def test_devices_name_their_architectures_and_old_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [(9, 0), (7, 5), (8, 0), (9, 0)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: devices[index])
    assert cuda_toolchain.device_architectures() == ("80", "90")
    devices[:] = [(7, 5)]
    with pytest.raises(UnavailableError, match=r"compute capability 8\.0 or newer; this machine's devices have 7\.5"):
        cuda_toolchain.device_architectures()


def test_architectures_are_read_in_every_spelling() -> None:
    assert parse_architectures(["sm_90a,8.0", "100", "80"]) == ("80", "90a", "100")
    assert parse_architectures([]) == ()
    with pytest.raises(UsageError, match="'ampere' is no architecture"):
        parse_architectures(["ampere"])
    with pytest.raises(UsageError, match=r"'75'.*need 80"):
        parse_architectures(["75"])


def test_a_device_newer_than_nvcc_gets_its_newest_virtual_code() -> None:
    cuda = CudaToolchain(
        nvcc="nvcc", version="13", architectures=("90", "121"), host_compiler="g++", known=("80", "90", "100")
    )
    targets = [flag for flag in compile_flags(cuda, Path("torch")) if flag.startswith("-gencode")]
    assert targets == ["-gencode=arch=compute_90,code=sm_90", "-gencode=arch=compute_100,code=compute_100"]


_LOAD = """
import torch
from segzoo import kernels
from segzoo.errors import SegzooError
from segzoo.kernels import native, sources
native.operators = lambda kind="cpu": (sources.cuda_operator("no_such_operator", "no such operator"),)
try:
    kernels.load("cuda")
except SegzooError as error:
    raise SystemExit(error.exit_code)
print(kernels.backend("cuda"), kernels.describe("cuda:0"), len(kernels.notes()))
"""


def run_load(choice: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SEGZOO_KERNELS": choice}
    return subprocess.run(
        [sys.executable, "-c", _LOAD], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )


def test_auto_falls_back_with_a_note_and_native_fails() -> None:
    result = run_load("auto")
    assert result.stdout.split() == ["reference", "reference", "1"], result.stderr
    assert "warning: no such operator run on the slow reference kernels" in result.stderr
    assert run_load("native").returncode == 6


def test_devices_without_compiled_kernels_get_the_reference() -> None:
    assert native.load("meta") == native.describe("mps") == "reference"
