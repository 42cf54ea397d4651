"""What this machine has for segzoo: each check is a row with a verdict and, where it is bad, a cure."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from segzoo import paths
from segzoo.errors import SegzooError, UnavailableError
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.zoo.manifest import load_manifest

OK, WARNING, BAD = "ok", "warning", "bad"
MINIMUM_PYTHON = (3, 10)
MINIMUM_TORCH = (2, 10)
COMFORTABLE_BYTES = 2 * 2**30
ONLINE_TIMEOUT_S = 10
VARIABLES = ("SEGZOO_HOME", "SEGZOO_DATA", "SEGZOO_ZOO", "SEGZOO_OFFLINE", "SEGZOO_KERNELS", "NO_COLOR")

Row = dict[str, Any]


def examine(*, online: bool = False) -> Run:
    """All checks as a Run; its status is "failed" where one is bad.

    Args:
        online: also ask every host of weights whether it answers.
    """
    watch = Stopwatch()
    checks: list[Callable[[], list[Row]]] = [_python, _torch, _devices, _kernels, _zoo, _cache, _data, _variables]
    rows = [row for check in checks + ([_mirrors] if online else []) for row in check()]
    bad = [row["check"] for row in rows if row["verdict"] == BAD]
    return Run(
        command="doctor",
        metrics={"checks": len(rows), "bad": len(bad)},
        conditions={"online": online},
        breakdown={"check": rows},
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="failed" if bad else "ok",
        error=f"not in order: {', '.join(bad)}" if bad else None,
    )


def demand_health(run: Run) -> None:
    """Turns a failed examination into its exit code.

    Raises:
        UnavailableError: a check is bad.
    """
    if run.status == "failed":
        raise UnavailableError(run.error or "something is not in order")


def _row(check: str, found: object, verdict: str = OK, hint: str = "") -> Row:
    return {"check": check, "found": str(found), "verdict": verdict, "hint": hint}


def _python() -> list[Row]:
    good = sys.version_info >= MINIMUM_PYTHON
    hint = "" if good else f"segzoo needs Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer"
    return [_row("python", f"{platform.python_version()} at {sys.executable}", OK if good else BAD, hint)]


def _torch() -> list[Row]:
    rows = []
    for package in ("torch", "timm", "numpy", "opencv-python-headless", "safetensors", "typer"):
        try:
            rows.append(_row(package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            # OpenCV comes under several names, and any of them will do.
            verdict = WARNING if package.startswith("opencv") else BAD
            rows.append(_row(package, "not installed", verdict, f"pip install {package}"))
    version = tuple(int(word) for word in rows[0]["found"].split(".")[:2] if word.isdecimal())
    if version and version < MINIMUM_TORCH:
        rows[0] |= {"verdict": BAD, "hint": f"segzoo needs torch {'.'.join(map(str, MINIMUM_TORCH))} or newer"}
    return rows


def _devices() -> list[Row]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [_row("devices", f"torch does not import: {error}", BAD, "reinstall torch")]
    rows = [_row("cpu", f"{environment().cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    rows.append(_row("cuda", f"{torch.version.cuda}: {', '.join(names)}" if names else "none"))
    rows.append(_row("mps", "available" if torch.backends.mps.is_available() else "none"))
    return rows


def _kernels() -> list[Row]:
    try:
        from segzoo.kernels.inspect import status_run

        status = status_run()
    except SegzooError as error:
        return [_row("kernels", error, BAD, "unset SEGZOO_KERNELS")]
    found = status.conditions
    compiler = f"{found['compiler']} ({found['compiler_version']})" if "compiler" in found else "none"
    native = found["kernel"] == "native"
    slow = "" if native else "; ".join(status.notes) or "SEGZOO_KERNELS=reference: slow"
    # A user who insists on native kernels gets no result at all without a compiler.
    broken = not native and paths.kernel_choice() == "native"
    state = "compiled" if found.get("compiled") else "compiled at first use" if native else "pure PyTorch"
    return [
        _row("compiler", compiler, OK if "compiler" in found else WARNING),
        _row("kernels", f"{found['kernel']} ({state})", BAD if broken else OK if native else WARNING, slow),
    ]


def _zoo() -> list[Row]:
    try:
        manifest = load_manifest()
    except SegzooError as error:
        return [_row("zoo", error, BAD, "mend the manifest, or unset SEGZOO_ZOO")]
    files = [paths.zoo_file(), *paths.user_zoo_files()]
    return [_row("zoo", f"{len(manifest.models)} models from {', '.join(map(str, files))}")]


def _cache() -> list[Row]:
    folder = paths.home()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found = f"{folder} ({free / 2**30:.1f} GiB free)"
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return [_row("cache", found, BAD, f"cannot write: {error.strerror}; set SEGZOO_HOME to another folder")]
    if free < COMFORTABLE_BYTES:
        return [_row("cache", found, WARNING, "little room for weights; set SEGZOO_HOME to another disk")]
    return [_row("cache", found)]


def _data() -> list[Row]:
    with contextlib.suppress(SegzooError):
        datasets = load_manifest().datasets
        roots = {name: paths.data_folder() / entry.root for name, entry in datasets.items() if entry.root}
        present = {name: root for name, root in roots.items() if root.is_dir()}
        rows = [_row(f"data {name}", root) for name, root in present.items()]
        absent = ", ".join(sorted(set(roots) - set(present)))
        return rows + ([_row("data", f"not below {paths.data_folder()}: {absent}")] if absent else [])
    return []


def _variables() -> list[Row]:
    return [_row(name, value) for name in VARIABLES if (value := os.environ.get(name))]


def _mirrors() -> list[Row]:
    """Whether each host of weights answers; any answer will do, 404 included."""
    import requests

    urls = [url for model in load_manifest().models.values() for weights in model.weights for url in weights.url]
    parts = [urlsplit(url) for url in urls if url.startswith("http")]
    rows = []
    for host in sorted({f"{part.scheme}://{part.netloc}" for part in parts}):
        try:
            answer = requests.head(host, timeout=ONLINE_TIMEOUT_S, allow_redirects=True)
            rows.append(_row(host, f"answers ({answer.status_code})"))
        except requests.RequestException as error:
            rows.append(_row(host, type(error).__name__, WARNING, "weights come from another mirror, if there is one"))
    return rows
