"""Compiles an operator's library once a machine and finds it again: key, look, lock, look again, build, move.

A library's file name holds a hash of all that shaped it. The lock is the operating system's, so it goes
with the process that held it. A library appears under its name whole or not at all, and is compared with
its checksum before use: loading a truncated one would kill the process.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from segzoo import paths
from segzoo.errors import SegzooError, UnavailableError
from segzoo.kernels import cuda_toolchain, toolchain
from segzoo.kernels.sources import Operator

_PATIENCE_S = 600.0  # for another process that is compiling the same library
_GRACE_S = 2.0  # for compilers that were told to end, and have temporary files to remove
_LINES_KEPT = 20
SHARED_FOLDER = "shared"
"""Headers that several operators include."""
_failures: dict[str, str] = {}


class InterruptedBuildError(SegzooError):
    """Someone ended the compilers: no reason to go on without what they were to make."""

    exit_code = 130


def torch_folder() -> Path:
    """The installed torch package, with its headers and libraries."""
    import torch

    return Path(torch.__file__).parent


def build_key(operator: Operator, tools: toolchain.Toolchain) -> str:
    """16 hexadecimal digits that change with sources, flags, compilers, torch, platform and processor.

    For CUDA it is the architectures in the processor's place.
    """
    import torch

    digest = hashlib.sha256()
    for folder in (paths.kernel_sources() / SHARED_FOLDER, operator.folder):
        for file in sorted(folder.glob("*")):
            digest.update(f"{folder.name}/{file.name}\0".encode() + file.read_bytes() + b"\0")
    facts = [torch.__version__, *toolchain.shaping_words(operator, tools)]
    digest.update("\n".join(facts).encode())
    return digest.hexdigest()[:16]


def library_file(operator: Operator, tools: toolchain.Toolchain, folder: Path | None = None) -> Path:
    """Where the library of this key is or will be."""
    name = f"{operator.library}-{build_key(operator, tools)}.so"
    return (folder or paths.kernels_folder()) / name


def build(operator: Operator, notes: list[str], *, again: bool = False, architectures: Sequence[str] = ()) -> Path:
    """The operator's library, compiled now unless this machine has it.

    Args:
        operator: what to compile.
        notes: gets a sentence when the cache could not be used.
        again: compile even if the library is there.
        architectures: for a CUDA operator, what to compile for; this machine's devices when empty.

    Raises:
        UnavailableError: no compiler, or it failed; with the end of its output. A failure is remembered
            for the life of the process.
        InterruptedBuildError: a signal ended the compilers, and not this process. What ends this process (Ctrl-C)
            ends them first.
    """
    tools = toolchain.find_toolchain(operator.device, architectures)
    target = library_file(operator, tools)
    if not again and _is_whole(target):
        return target
    if target.name in _failures and not again:
        raise UnavailableError(_failures[target.name])
    try:
        return _build_in(target.parent, operator, tools, again)
    except OSError as error:
        notes.append(f"{target.parent} cannot be written ({error.strerror}); compiled for this process only")
        return _build_in(_temporary_folder(), operator, tools, again)


def _checksum_file(target: Path) -> Path:
    return target.with_suffix(".sha256")


def _is_whole(target: Path) -> bool:
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == _checksum_file(target).read_text()
    except OSError:
        return False


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="segzoo-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _build_in(folder: Path, operator: Operator, tools: toolchain.Toolchain, again: bool) -> Path:
    target = library_file(operator, tools, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if not again and _is_whole(target):
            return target
        _remove_leftovers(target)
        work = Path(tempfile.mkdtemp(dir=folder, prefix=f".{target.stem}."))
        try:
            built = _compile(operator, tools, work, target.name)
            digest = hashlib.sha256(built.read_bytes()).hexdigest()
            _checksum_file(target).write_text(digest)
            os.replace(built, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that compiles {target.stem}", file=sys.stderr, flush=True)
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise UnavailableError(
                f"another process has held {lock.lock_file} for {_PATIENCE_S:.0f} s; stop it and try again"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(target: Path) -> None:
    """Folders of builds of this key that were killed; whoever holds the lock may clear them."""
    for folder in target.parent.glob(f".{target.stem}.*"):
        shutil.rmtree(folder, ignore_errors=True)


def _compile(operator: Operator, tools: toolchain.Toolchain, work: Path, target: str) -> Path:
    text = toolchain.ninja_file(operator, tools, operator.folder, torch_folder(), target)
    (work / "build.ninja").write_text(text)
    place = f"{', '.join(tools.cuda.architectures)} (about a minute" if tools.cuda else "this CPU (about 10 s"
    print(f"compiling {operator.title} for {place}, once) ...", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    command = [tools.ninja, "-C", str(work), "-j", str(toolchain.jobs())]
    code, log = _run(command)
    if code:
        _raise_failure(operator, tools, log, target)
    print(f"compiled {operator.title} in {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
    return work / target


def _run(command: list[str]) -> tuple[int, str]:
    """(exit code, output) of a program; whatever ends the wait for it ends all processes that it has started.

    They are in a session of their own, so that a Ctrl-C reaches this process alone: it decides what becomes of them.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        log, _ = process.communicate()
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
    return process.returncode, log


def _raise_failure(operator: Operator, tools: toolchain.Toolchain, log: str, target: str) -> None:
    if "No space left on device" in log:
        raise OSError(28, "No space left on device")
    if "interrupted by user" in log:
        raise InterruptedBuildError(f"compiling {operator.title} was interrupted; the next run compiles it anew")
    last = "\n".join(log.strip().splitlines()[-_LINES_KEPT:])
    why = cuda_toolchain.explain(log, tools.cuda) if tools.cuda else None
    message = f"compiling {operator.title} with {tools.title} failed{f'; {why}' if why else ''}:\n{last}"
    _failures[target] = message
    raise UnavailableError(message)


def cached_files() -> list[Path]:
    """Libraries, checksums, locks and left-over folders in the cache, of every key."""
    folder = paths.kernels_folder()
    return sorted(folder.iterdir()) if folder.is_dir() else []


def clean() -> tuple[int, int]:
    """Removes everything that was compiled. Returns how many libraries, and their bytes with all beside them."""
    files, size = 0, 0
    for path in cached_files():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            continue
        size += path.stat().st_size
        files += path.suffix == ".so"
        path.unlink()
    return files, size
