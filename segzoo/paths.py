"""Where things are: the manifest, the kernel sources, the cache, the data. Reads the SEGZOO_* variables."""

from __future__ import annotations

import os
from pathlib import Path

from segzoo.errors import UnavailableError

_PACKAGE = Path(__file__).resolve().parent
# Set by --nproc for the processes that it starts: HOST:PORT of the words that they share.
SHARED_STORE = "SEGZOO_SHARED_STORE"


def _shipped(name: str) -> Path:
    """`name` beside the package in a checkout (or editable install), inside the package in a wheel."""
    checkout = _PACKAGE.parent
    candidates = [checkout / name] if (checkout / "pyproject.toml").exists() else []
    for candidate in (*candidates, _PACKAGE / "shipped" / name):
        if candidate.exists():
            return candidate
    raise UnavailableError(f"{name} is missing from the installation at {_PACKAGE}; reinstall segzoo")


def zoo_file() -> Path:
    """The built-in manifest, zoo.yaml."""
    return _shipped("zoo.yaml")


def kernel_sources() -> Path:
    """The folder csrc/ with the C++ sources of the operators."""
    return _shipped("csrc")


def benchmark_sources() -> Path:
    """The folder benchmarks/ with the C++ sources of what kernels are compared with."""
    return _shipped("benchmarks")


def embedded_weights(name: str) -> Path:
    """A weights file that is part of the package itself."""
    return _PACKAGE / "weights" / "embedded" / name


def user_zoo_files() -> list[Path]:
    """Manifests that add to the built-in one: SEGZOO_ZOO, separated as in PATH."""
    return [Path(item) for item in os.environ.get("SEGZOO_ZOO", "").split(os.pathsep) if item]


def home() -> Path:
    """The cache folder: SEGZOO_HOME, else segzoo in the XDG cache folder. Not created here."""
    if chosen := os.environ.get("SEGZOO_HOME"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segzoo"


def weights_folder() -> Path:
    """Where downloaded weights are kept."""
    return home() / "weights"


def kernels_folder() -> Path:
    """Where compiled kernels are kept."""
    return home() / "kernels"


def data_folder() -> Path:
    """The parent folder of data sets: SEGZOO_DATA, else data in the cache folder."""
    chosen = os.environ.get("SEGZOO_DATA")
    return Path(chosen).expanduser() if chosen else home() / "data"


def evaluations_folder() -> Path:
    """Where evaluations keep what they have counted until they are done."""
    return home() / "evaluations"


def offline() -> bool:
    """True when SEGZOO_OFFLINE forbids any network access."""
    return os.environ.get("SEGZOO_OFFLINE", "").lower() not in ("", "0", "false", "no")


def kernel_choice() -> str:
    """SEGZOO_KERNELS: "auto" (default), "native" or "reference"."""
    return os.environ.get("SEGZOO_KERNELS", "auto").lower()


def shared_store() -> tuple[str, int] | None:
    """Host and port of the store of the process that started this one by --nproc; None without one."""
    host, _, port = os.environ.get(SHARED_STORE, "").rpartition(":")
    return (host, int(port)) if host else None
