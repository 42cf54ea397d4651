"""The builder: cache key, lock, failures, caches that cannot be written. On a library of one line."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segzoo import paths
from segzoo.errors import UnavailableError, UsageError
from segzoo.kernels import build as builder
from segzoo.kernels import native, toolchain
from segzoo.kernels.sources import Operator, Unit

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = Operator(name="tiny", title="tiny", units=(Unit(source="tiny.cpp", name="tiny"),))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    (tmp_path / "csrc" / "tiny").mkdir(parents=True)
    (tmp_path / "csrc" / "tiny" / "tiny.cpp").write_text("int answer() { return 42; }\n")
    monkeypatch.setattr(paths, "kernel_sources", lambda: tmp_path / "csrc")
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(builder, "_failures", {})


def _compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """A compiler of ours: a shell script that does `body` before it hands over to g++."""
    script = tmp_path / "compiler"
    script.write_text(f'#!/bin/sh\ncase "$1" in --version) exec g++ --version;; esac\n{body}\nexec g++ "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    return script


def _key(operator: Operator = TINY) -> str:
    return builder.build_key(operator, toolchain.find_toolchain())


def test_second_build_finds_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    first = builder.build(TINY, [])
    assert "compiling tiny" in capfd.readouterr().err
    made = first.stat().st_mtime_ns
    assert builder.build(TINY, []) == first
    assert capfd.readouterr().err == ""
    assert first.stat().st_mtime_ns == made
    assert [path.suffix for path in builder.cached_files()] == [".lock", ".sha256", ".so"]


def test_key_changes_with_all_that_shapes_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [_key()]
    keys.append(
        _key(Operator(name="tiny", title="tiny", units=(Unit(source="tiny.cpp", name="tiny", flags=("-O3",)),)))
    )
    with monkeypatch.context() as patch:
        patch.setattr(toolchain, "cpu_features", lambda: "sse2 and nothing more")
        keys.append(_key())
    with monkeypatch.context() as patch:
        patch.setattr("torch.__version__", "2.99.0")
        keys.append(_key())
    with monkeypatch.context() as patch:
        _compiler(tmp_path, patch, "")
        keys.append(_key())
    (tmp_path / "csrc" / "tiny" / "tiny.h").write_text("// a header\n")
    keys.append(_key())
    assert len(set(keys)) == len(keys)


def test_a_failed_compile_tells_why_leaves_nothing_and_is_remembered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "csrc" / "tiny" / "tiny.cpp").write_text("int answer() { return undeclared_name; }\n")
    with pytest.raises(UnavailableError, match="undeclared_name"):
        builder.build(TINY, [])
    assert [path.suffix for path in builder.cached_files()] == [".lock"]
    capfd.readouterr()
    with pytest.raises(UnavailableError, match="undeclared_name"):
        builder.build(TINY, [])
    assert "compiling" not in capfd.readouterr().err


_BUILD_TINY = """
from pathlib import Path
from segzoo import paths
from segzoo.kernels import build
from segzoo.kernels.sources import Operator, Unit
paths.kernel_sources = lambda: Path({csrc!r})
print(build.build(Operator(name="tiny", title="tiny", units=(Unit(source="tiny.cpp", name="tiny"),)), []))
"""


def _start_build(tmp_path: Path, before: str = "") -> subprocess.Popen[str]:
    code = before + _BUILD_TINY.format(csrc=str(tmp_path / "csrc"))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_damaged_library_is_compiled_again(capfd: pytest.CaptureFixture[str]) -> None:
    library = builder.build(TINY, [])
    whole = library.stat().st_size
    os.truncate(library, 1000)
    capfd.readouterr()
    assert builder.build(TINY, []) == library
    assert "compiling tiny" in capfd.readouterr().err
    assert library.stat().st_size == whole


def test_a_killed_build_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _compiler(tmp_path, monkeypatch, f"echo $$ >> {tmp_path}/started; test -f {tmp_path}/quick || sleep 60")
    victim = _start_build(tmp_path)
    compiler = _compiler_at_work(tmp_path)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    os.killpg(os.getpgid(compiler), signal.SIGKILL)
    assert any(path.is_dir() for path in builder.cached_files())
    (tmp_path / "quick").touch()
    begin = time.monotonic()
    assert builder.build(TINY, []).exists()
    assert time.monotonic() - begin < 30
    assert [path.suffix for path in builder.cached_files()] == [".lock", ".sha256", ".so"]


_ENDS_AS_SEGZOO_DOES = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
"""


@pytest.mark.parametrize(("number", "everyone", "code"), [(signal.SIGINT, True, -2), (signal.SIGTERM, False, 143)])
def test_an_interrupted_build_ends_its_compilers_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, everyone: bool, code: int
) -> None:
    _compiler(tmp_path, monkeypatch, f"echo $$ >> {tmp_path}/started; test -f {tmp_path}/quick || exec sleep 60")
    victim = _start_build(tmp_path, before=_ENDS_AS_SEGZOO_DOES)
    compiler = _compiler_at_work(tmp_path)
    begin = time.monotonic()
    (os.killpg if everyone else os.kill)(victim.pid, number)
    _, words = victim.communicate(timeout=60)
    assert victim.returncode == code and time.monotonic() - begin < 30
    assert "reference" not in words
    assert not _is_at_work(compiler)
    assert [path.suffix for path in builder.cached_files()] == [".lock"]
    (tmp_path / "quick").touch()
    assert builder.build(TINY, []).exists()


def test_compilers_that_a_signal_ends_are_no_reason_for_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _compiler(tmp_path, monkeypatch, 'kill -TERM "$PPID"; exit 1')
    monkeypatch.setattr(native, "operators", lambda kind: (TINY,))
    with pytest.raises(builder.InterruptedBuildError, match="compiling tiny was interrupted; the next run") as ending:
        native.load()
    assert ending.value.exit_code == 130
    assert [path.suffix for path in builder.cached_files()] == [".lock"] and native.notes() == []
    _compiler(tmp_path, monkeypatch, "")
    assert builder.build(TINY, []).exists()


def _is_at_work(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _compiler_at_work(tmp_path: Path) -> int:
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text().endswith("\n"):
        assert time.monotonic() < deadline, "the build never started"
        time.sleep(0.02)
    return int((tmp_path / "started").read_text().split()[0])


def test_two_processes_at_once_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _compiler(tmp_path, monkeypatch, "sleep 0.3")
    processes = [_start_build(tmp_path), _start_build(tmp_path)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0][0] == answers[1][0]
    assert "".join(words for _, words in answers).count("compiling tiny for") == 1


def test_a_cache_that_cannot_be_written_gives_a_note_and_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path / "file" / "home"))
    notes: list[str] = []
    assert builder.build(TINY, notes).exists()
    assert "cannot be written" in notes[0]


def test_a_full_disk_gives_a_note_and_a_library_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = f'case "$PWD" in {tmp_path}/*) echo "fatal error: No space left on device"; exit 1;; esac'
    _compiler(tmp_path, monkeypatch, full)
    notes: list[str] = []
    library = builder.build(TINY, notes)
    assert library.exists() and tmp_path not in library.parents
    assert "No space left on device" in notes[0]


def test_missing_compiler_and_unknown_choice_are_errors_that_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UnavailableError, match=r"CXX=no-such-compiler is not a program.*SEGZOO_KERNELS=reference"):
        builder.build(TINY, [])
    monkeypatch.setenv("SEGZOO_KERNELS", "fast")
    with pytest.raises(UsageError, match="SEGZOO_KERNELS=fast is none of auto, native, reference"):
        native.load()


def test_jobs_are_capped_and_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAX_JOBS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert toolchain.jobs() == 4
    monkeypatch.setenv("MAX_JOBS", "2")
    assert toolchain.jobs() == 2


def test_paths_with_spaces_and_dollars_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "a $folder: odd"
    shutil.copytree(tmp_path / "csrc", odd)
    monkeypatch.setattr(paths, "kernel_sources", lambda: odd)
    monkeypatch.setenv("SEGZOO_HOME", str(odd / "home"))
    assert builder.build(TINY, []).exists()
