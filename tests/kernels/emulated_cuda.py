"""Compiles device code with the emulator in cuda_emulator/ and runs it on the CPU, under AddressSanitizer."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from segzoo import paths

EMULATOR = Path(__file__).parent / "cuda_emulator"
_FLAGS = ("-x", "c++", "-std=c++20", "-O1", "-DSEGZOO_CUDA_EMULATED", "-fsanitize=address", "-Wno-unknown-pragmas")
# leaks are reported by a tracer that sandboxes often forbid; fibers make no use of fake stacks
_ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"}


def compiled(driver: str, *folders: str, flags: tuple[str, ...] = ()) -> Path:
    """The program of a driver in cuda_emulator/, compiled unless one of the same sources and flags is there.

    Args:
        driver: file name in cuda_emulator/.
        folders: those of csrc/ whose files it includes, beside `shared`.
        flags: further flags of the compiler.

    Skips the test where there is no g++ (the emulator uses its `_Float16`).
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no C++ compiler on PATH")
    include = [EMULATOR, *(paths.kernel_sources() / name for name in ("shared", *folders))]
    digest = hashlib.sha256(repr((driver, flags, compiler, _FLAGS)).encode())
    for folder in include:
        for file in sorted(folder.iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
    program = Path(os.environ["SEGZOO_HOME"]) / "emulated" / f"{Path(driver).stem}-{digest.hexdigest()[:16]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_name(f"{program.name}.{os.getpid()}")
        includes = [f"-I{folder}" for folder in include]
        command = [compiler, *_FLAGS, *flags, *includes, str(EMULATOR / driver), "-o", str(unfinished)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-4000:]
        unfinished.replace(program)
    return program


def run(program: Path, *words: str, seed: int = 1, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a program with `given` on its standard input; `seed` draws the order of threads, 0 is by number."""
    environment = os.environ | _ENVIRONMENT | {"SEGZOO_EMULATOR_SEED": str(seed)}
    return subprocess.run([program, *words], input=given, capture_output=True, env=environment, timeout=300)
