"""What the commands `segzoo kernel ...` report, each as a Run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segzoo import kernels, paths
from segzoo.device import pick_device
from segzoo.errors import UnavailableError, UsageError
from segzoo.kernels import build as builder
from segzoo.kernels import check, check_deformable, check_pictures, check_tail
from segzoo.kernels.native import choice
from segzoo.kernels.sources import CPU, CUDA, operators
from segzoo.kernels.toolchain import find_toolchain
from segzoo.results import Run, Stopwatch, command_line, environment


def _finished(command: str, watch: Stopwatch, **parts: Any) -> Run:
    return Run(
        command=command,
        environment=environment("cpu"),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        **parts,
    )


def build_run(*, again: bool, device: str = CPU, architectures: Sequence[str] = ()) -> Run:
    """Compiles what is missing (everything when `again`) for "cpu" or "cuda".

    Args:
        again: compile even what is there.
        device: the kind of device.
        architectures: of CUDA, such as "80" and "90"; those of this machine's devices when empty.

    Raises:
        UnavailableError: it cannot be compiled here.
        UsageError: an architecture that is none, or architectures for a device other than "cuda".
    """
    if architectures and device != CUDA:
        raise UsageError(f"--cuda-arch is for --device cuda, not for {device}")
    watch = Stopwatch()
    notes: list[str] = []
    libraries = {
        operator.library: builder.build(operator, notes, again=again, architectures=architectures)
        for operator in operators(device)
    }
    conditions = {f"{name}_library": str(library) for name, library in libraries.items()}
    metrics: dict[str, float | int | None] = {
        "library_bytes": sum(library.stat().st_size for library in libraries.values())
    }
    return _finished("kernel build", watch, conditions=conditions, metrics=metrics, notes=notes)


def status_run() -> Run:
    """Compilers, cache and what a run would use, without compiling or loading."""
    watch = Stopwatch()
    conditions: dict[str, Any] = {"SEGZOO_KERNELS": choice(), "cache": str(paths.kernels_folder())}
    notes = []
    try:
        conditions |= _tools_of(CPU)
    except UnavailableError as error:
        notes.append(str(error))
    conditions["kernel"] = "reference" if choice() == "reference" or notes else "native"
    conditions |= _cuda_status()
    files = [file for file in builder.cached_files() if file.suffix == ".so"]
    metrics: dict[str, float | int | None] = {
        "cached_libraries": len(files),
        "cached_bytes": sum(file.stat().st_size for file in files),
    }
    return _finished("kernel status", watch, conditions=conditions, metrics=metrics, notes=notes)


def _tools_of(device: str) -> dict[str, Any]:
    """The compiler of a kind of device and the libraries it makes."""
    tools = find_toolchain(device)
    libraries = {operator.library: builder.library_file(operator, tools) for operator in operators(device)}
    if tools.cuda:
        words: dict[str, Any] = {"nvcc": tools.cuda.nvcc, "nvcc_version": tools.cuda.version}
        words["cuda_architectures"] = ",".join(tools.cuda.architectures)
    else:
        words = {"compiler": tools.compiler, "compiler_version": tools.version, "ninja": tools.ninja}
    words |= {f"{name}_library": str(library) for name, library in libraries.items()}
    compiled = all(library.exists() for library in libraries.values())
    return words | {"cuda_compiled" if tools.cuda else "compiled": compiled}


def _cuda_status() -> dict[str, Any]:
    """The same for CUDA. A machine without it is no fault, so what is missing is a condition, not a note."""
    try:
        words = _tools_of(CUDA)
    except UnavailableError as error:
        return {"cuda_kernel": f"none ({error})"}
    return words | {"cuda_kernel": "reference" if choice() == "reference" else "native"}


def verifications(device: str) -> dict[str, Iterator[check.Finding]]:
    """What `segzoo kernel check` compares on a device, part by part."""
    parts = {
        "forward": check.verify_forward(device),
        "backward": check.verify_backward(device),
        "deformable forward": check_deformable.verify_forward(device),
        "deformable backward": check_deformable.verify_backward(device),
        "tail": check_tail.verify(device),
    }
    if device == CPU:
        parts |= {"training crop": check_pictures.verify_crops(), "PNG label": check_pictures.verify_labels()}
    return parts


def check_run(tell: Callable[[str], None], device: str = CPU) -> Run:
    """Verifies forward and backward of the kernels that this process uses, telling a line for each part.

    The Run has every comparison in its breakdown; its status is "failed" when one is out of tolerance.

    Raises:
        UnavailableError: a device that this machine does not have.
    """
    watch = Stopwatch()
    place = pick_device(device)
    kernels.load(place)
    tell(f"kernel: {kernels.describe(place)}")
    parts = verifications(str(place))
    findings = [finding for name, found in parts.items() for finding in _part(name, found, tell)]
    wrong = [finding for finding in findings if not finding.within]
    rows = [
        {"part": f.part, "case": f.case, "result": f.result, "error": f.error, "tolerance": f.tolerance}
        for f in findings
    ]
    return _finished(
        "kernel check",
        watch,
        conditions={"device": str(place), "kernel": kernels.describe(place), "truth": "float64 reference"},
        metrics={"comparisons": len(findings), "out_of_tolerance": len(wrong)},
        breakdown={"comparison": rows},
        notes=kernels.notes(),
        status="failed" if wrong else "ok",
        error=f"{len(wrong)} of {len(findings)} comparisons are out of tolerance" if wrong else None,
    )


def _part(name: str, found: Iterator[check.Finding], tell: Callable[[str], None]) -> list[check.Finding]:
    findings = list(found)
    wrong = [finding for finding in findings if not finding.within]
    for finding in wrong:
        tell(f"  {finding.case}: {finding.result} is off by {finding.error:.2e}, tolerance {finding.tolerance:.2e}")
    # error as a share of its tolerance, because tolerances differ between dtypes
    worst = max(findings, key=lambda f: f.error / f.tolerance if f.tolerance else f.error)
    verdict = "FAILED" if wrong else "ok"
    tell(
        f"verifying {name} ... {verdict} ({len(findings)} comparisons; closest: {worst.result}, "
        f"error {worst.error:.2e} of {worst.tolerance:.2e} allowed)"
    )
    return findings


def clean_run() -> Run:
    """Empties the cache of compiled kernels."""
    watch = Stopwatch()
    files, size = builder.clean()
    metrics: dict[str, float | int | None] = {"removed_libraries": files, "removed_bytes": size}
    return _finished("kernel clean", watch, conditions={"cache": str(paths.kernels_folder())}, metrics=metrics)


def text_of(run: Run) -> str:
    """Conditions, metrics and notes of a Run, a line each."""
    facts = {**run.conditions, **run.metrics}
    width = max(map(len, facts))
    return "\n".join([*(f"{name:<{width}}  {value}" for name, value in facts.items()), *run.notes])
