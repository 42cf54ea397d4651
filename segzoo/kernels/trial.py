"""Tries compiled CUDA kernels on a device, once, in a process of their own, before any other depends on them.

A kernel that a compiler or a device does not agree with may give wrong numbers, or end in an illegal memory access,
after which a process can do nothing more with the device. Either is found out here: the child compares forward and
backward with the reference as `segzoo kernel check` does and says what it finds a line at a time, so that a crash
tells whose it was. A trial that was passed leaves a mark beside the library, one for each model of device.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from segzoo.kernels.check import Finding

_GROSS = 8.0  # times its tolerance: rounding of another order stays far below, a wrong term far above
_PATIENCE_S = 300.0

Judge = Callable[[str, str], Iterator[Finding]]


def rejected(libraries: dict[str, Path], device: str, model: str) -> dict[str, str]:
    """What is wrong with those that have not been tried on a model of device yet, as `try_out` says it.

    Processes of one job take turns, so that one of them tries and the others find its marks. Where the cache cannot be
    written to, each tries for itself.
    """
    with _turn(next(iter(libraries.values())).parent / "trial.lock"):
        new = untried(libraries, model)
        if not new:
            return {}
        print(f"trying the kernels on this {model} (once) ...", file=sys.stderr, flush=True)
        wrong = try_out(new, device)
        for name in new:
            if name not in wrong:
                with contextlib.suppress(OSError):
                    mark_of(libraries[name], model).touch()
    return wrong


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def mark_of(library: Path, model: str) -> Path:
    """The file that says that a library has been tried on a model of device, such as "NVIDIA H200"."""
    return library.with_suffix(f".{re.sub('[^a-z0-9]+', '-', model.lower()).strip('-')}.tried")


def untried(libraries: dict[str, Path], model: str) -> list[str]:
    """The operators whose libraries have no mark for that model."""
    return [name for name, library in libraries.items() if not mark_of(library, model).exists()]


def try_out(names: Sequence[str], device: str, *, child: Sequence[str] | None = None) -> dict[str, str]:
    """What is wrong with operators on a device.

    Args:
        names: of operators; their libraries are built.
        device: "cuda", "cuda:1", ...
        child: the command that says the findings; `python -m segzoo.kernels.trial` when None.

    Returns:
        A sentence by the operator's name; nothing for one that passed, or could not be tried (no memory left).
    """
    command = list(child or (sys.executable, "-m", "segzoo.kernels.trial"))
    wrong: dict[str, str] = {}
    left = list(names)
    while left:
        said, ending = _ask([*command, device, *left])
        for name, why in said.items():
            if why:
                wrong[name] = why
        left = [name for name in left if name not in said]
        if left and ending:
            # the first of those that it did not speak of is where it ended; the others get a process of their own
            wrong[left.pop(0)] = ending
        elif left:
            break
    return wrong


def _ask(command: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """(what the child said by operator, how it ended unless well)."""
    environment = {**os.environ, "SEGZOO_KERNELS": "native"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        return _said(_text(error.stdout)), f"their trial did not end within {_PATIENCE_S:.0f} s"
    if done.returncode == 0:
        return _said(done.stdout), None
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    how = f"signal {-done.returncode}" if done.returncode < 0 else last
    return _said(done.stdout), f"their trial ended in {how}"


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _said(output: str) -> dict[str, str]:
    said = {}
    for line in output.splitlines():
        if line.startswith('{"operator"'):  # the last line of a child that was killed may lack its end
            try:
                words = json.loads(line)
            except json.JSONDecodeError:
                continue
            said[words["operator"]] = words["wrong"]
    return said


def judge(name: str, device: str) -> Iterator[Finding]:
    """The comparisons of one operator."""
    from segzoo.kernels import check, check_deformable, check_tail

    if name == "neighborhood_attention":
        yield from check.verify_forward(device)
        yield from check.verify_backward(device)
    elif name == "deformable_attention":
        yield from check_deformable.verify_forward(device)
        yield from check_deformable.verify_backward(device)
    elif name == "segmentation_tail":
        yield from check_tail.verify(device)
    else:
        raise ValueError(f"no trial is known for {name}")


def verdict(findings: Iterator[Finding]) -> str:
    """What is grossly wrong in the first such finding; empty where none is."""
    for finding in findings:
        if not finding.error <= _GROSS * finding.tolerance:  # NaN is wrong
            return (
                f"{finding.part} of {finding.case}: {finding.result} is off by {finding.error:.2e}, "
                f"tolerance {finding.tolerance:.2e}"
            )
    return ""


def main(words: Sequence[str], judge: Judge = judge) -> None:
    """The child: loads the operators named after a device, compares each, prints a line of JSON for each."""
    import torch

    from segzoo.kernels import native
    from segzoo.kernels.sources import operators

    device, *names = words
    try:
        torch.zeros(1, device=device)
    except RuntimeError:
        return  # no room for a second process on the device: nothing can be said of the kernels
    known = {operator.name: operator for operator in operators(torch.device(device).type)}
    for name in names:
        native.load_library(known[name])
        try:
            wrong = verdict(judge(name, device))
        except torch.OutOfMemoryError:
            wrong = ""  # somebody else has the device's memory: that says nothing of the kernels
        print(json.dumps({"operator": name, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
