"""NVIDIA's compiler on this machine, the architectures to compile for, and its flags."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.errors import UnavailableError, UsageError

LEAST_ARCHITECTURE = 80
_FLAGS = ("-std=c++20", "-O3", "-DUSE_CUDA", "--expt-relaxed-constexpr", "-lineinfo")
_WHEEL_FOLDERS = ("cu13", "cuda_nvcc")  # below site-packages/nvidia, of CUDA 13 and of CUDA 12
# What a wheel of CUDA 12 keeps in folders of their own; CUDA 13's wheels share one.
_WHEEL_PARTS = ("cuda_runtime", "cuda_cccl")


@dataclass(frozen=True, kw_only=True)
class CudaToolchain:
    """nvcc and what it compiles for.

    Attributes:
        nvcc: the program.
        version: as nvcc gives it, "13.0.88".
        architectures: compute capabilities without the point, "80" or "90a", sorted.
        host_compiler: the C++ compiler that nvcc calls.
        known: the architectures that this nvcc knows.
    """

    nvcc: str
    version: str
    architectures: tuple[str, ...]
    host_compiler: str
    known: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """For messages: "nvcc 13.0.88 with /usr/bin/g++ for sm_80, sm_90"."""
        return f"nvcc {self.version} with {self.host_compiler} for {', '.join(f'sm_{a}' for a in self.architectures)}"


def find_cuda(host_compiler: str, architectures: Sequence[str] = ()) -> CudaToolchain:
    """The first nvcc of torch's CUDA version in CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda and NVIDIA's wheels.

    Args:
        host_compiler: the C++ compiler for nvcc; NVCC_CCBIN goes before it.
        architectures: such as "80" and "90"; those of this machine's devices when empty.

    Raises:
        UnavailableError: no nvcc, one of another CUDA than torch's, no device to compile for, or an old one.
        UsageError: an architecture that is none.
    """
    import torch

    if torch.version.cuda is None:
        raise UnavailableError(f"torch {torch.__version__} was built without CUDA; install a CUDA build of torch")
    nvcc = _fitting_nvcc(torch.version.cuda)
    wanted = parse_architectures(architectures) or device_architectures()
    host = os.environ.get("NVCC_CCBIN") or host_compiler
    known, version = _known_architectures(nvcc), nvcc_version(nvcc)
    return CudaToolchain(nvcc=nvcc, version=version, architectures=wanted, host_compiler=host, known=known)


def parse_architectures(words: Iterable[str]) -> tuple[str, ...]:
    """Sorted architectures of words such as "80", "9.0", "sm_90a" or "80,90".

    Raises:
        UsageError: a word that is no architecture, or one older than 8.0.
    """
    found = set()
    for word in (part.strip() for words_ in words for part in words_.split(",")):
        match = re.fullmatch(r"(?:sm_|compute_)?(\d{1,2})\.?(\d)([af]?)", word)
        if match is None:
            raise UsageError(f"--cuda-arch {word!r} is no architecture; give numbers such as 80,90")
        if int(match[1] + match[2]) < LEAST_ARCHITECTURE:
            raise UsageError(f"--cuda-arch {word!r}: the CUDA kernels need 80 (compute capability 8.0) or newer")
        found.add("".join(match.groups()))
    return tuple(sorted(found, key=_number))


def device_architectures() -> tuple[str, ...]:
    """Those of the CUDA devices in this machine that can run the kernels.

    Raises:
        UnavailableError: there is none.
    """
    import torch

    capabilities = [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]
    if not capabilities:
        raise UnavailableError("no CUDA device to compile for; name architectures with --cuda-arch 80,90")
    found = {f"{major}{minor}" for major, minor in capabilities}
    fitting = sorted((word for word in found if int(word) >= LEAST_ARCHITECTURE), key=int)
    if not fitting:
        raise UnavailableError(
            f"the CUDA kernels need compute capability 8.0 or newer; this machine's devices have "
            f"{', '.join(f'{major}.{minor}' for major, minor in capabilities)}"
        )
    return tuple(fitting)


def compile_flags(cuda: CudaToolchain, torch_folder: Path) -> list[str]:
    """nvcc's flags of every object file."""
    host = "-fPIC,-fvisibility=hidden,-Wall"
    folders = [str(torch_folder / "include"), *map(str, _wheel_folders(cuda.nvcc, "include"))]
    system = [word for folder in folders for word in ("-isystem", folder)]
    return ["-ccbin", cuda.host_compiler, *_FLAGS, *_targets(cuda), f"-Xcompiler={host}", *system]


def link_flags(cuda: CudaToolchain, torch_folder: Path) -> list[str]:
    """nvcc's flags of the link: CUDA's runtime goes in, so that nothing need be found at run time."""
    folders = [torch_folder / "lib", *_wheel_folders(cuda.nvcc, "lib")]
    libraries = ["-ltorch", "-ltorch_cpu", "-ltorch_cuda", "-lc10_cuda", "-lc10"]
    search = [f"-L{folder}" for folder in folders]
    return [
        "-ccbin",
        cuda.host_compiler,
        "-shared",
        "-cudart",
        "static",
        *search,
        "-Xlinker=--no-as-needed",
        *libraries,
    ]


def explain(log: str, cuda: CudaToolchain) -> str | None:
    """What to do about a failure that nvcc's words are known for; None for any other."""
    if "unsupported GNU version" in log or "unsupported clang version" in log:
        return (
            f"nvcc {cuda.version} does not take {cuda.host_compiler}: set NVCC_CCBIN to an older C++ compiler, "
            "or CUDA_HOME to a newer toolkit"
        )
    if "Unsupported gpu architecture" in log:
        known = ", ".join(cuda.known)
        return f"nvcc {cuda.version} does not know {', '.join(cuda.architectures)}; it knows {known}"
    return None


def _targets(cuda: CudaToolchain) -> list[str]:
    """Machine code for each architecture; for a device newer than nvcc, its newest virtual code."""
    flags = []
    for word in cuda.architectures:
        if not cuda.known or word in cuda.known or _number(word) <= _number(cuda.known[-1]):
            flags.append(f"-gencode=arch=compute_{word},code=sm_{word}")
        else:
            newest = cuda.known[-1]
            flags.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
    return list(dict.fromkeys(flags))


def _number(architecture: str) -> tuple[int, str]:
    digits = architecture.rstrip("af")
    return int(digits), architecture[len(digits) :]


def _fitting_nvcc(torchs: str) -> str:
    """The first nvcc of the same major version as the CUDA that torch was built with, such as "13.0"."""
    found = list(dict.fromkeys(_candidates()))
    for nvcc in found:
        if nvcc_version(nvcc).split(".")[0] == torchs.split(".")[0]:
            return nvcc
    if not found:
        raise UnavailableError(
            "no nvcc in CUDA_HOME, on PATH or among NVIDIA's wheels; install the CUDA toolkit "
            f"{torchs}, or set SEGZOO_KERNELS=reference"
        )
    versions = " and ".join(f"{nvcc} is of CUDA {nvcc_version(nvcc)}" for nvcc in found)
    raise UnavailableError(
        f"{versions}, torch of CUDA {torchs}: their major versions must agree; set CUDA_HOME to a fitting toolkit, "
        "or SEGZOO_KERNELS=reference"
    )


def _candidates() -> Iterator[str]:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    programs = [Path(home) / "bin" / "nvcc" for home in homes if home]
    programs += [Path(found)] if (found := shutil.which("nvcc")) else []
    programs += [Path("/usr/local/cuda/bin/nvcc")]
    programs += [folder / name / "bin" / "nvcc" for folder in _wheels() for name in _WHEEL_FOLDERS]
    return (str(program) for program in programs if os.access(program, os.X_OK))


def _wheels() -> list[Path]:
    """The folders that NVIDIA's wheels share, site-packages/nvidia."""
    try:
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def _wheel_folders(nvcc: str, kind: str) -> list[Path]:
    """The "include" or "lib" folders of an nvcc that came as a wheel; none for a toolkit, which finds its own."""
    root = Path(nvcc).parent.parent
    if root.parent not in _wheels():
        return []
    folders = [root / kind, *(root.parent / part / kind for part in _WHEEL_PARTS)]
    return [folder for folder in folders if folder.is_dir()]


@functools.lru_cache
def nvcc_version(nvcc: str) -> str:
    """The release of an nvcc, "13.0.88".

    Raises:
        UnavailableError: it does not run, or does not say.
    """
    text = _output(nvcc, "--version")
    match = re.search(r"release [\d.]+, V([\d.]+)", text)
    if match is None:
        raise UnavailableError(f"{nvcc} --version names no release: {text.strip()[-200:]}")
    return match[1]


@functools.lru_cache
def _known_architectures(nvcc: str) -> tuple[str, ...]:
    words = re.findall(r"compute_(\d+)", _output(nvcc, "--list-gpu-arch"))
    return tuple(sorted(set(words), key=_number))


def _output(nvcc: str, option: str) -> str:
    try:
        return subprocess.run([nvcc, option], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"the CUDA compiler {nvcc} does not run: {error}") from error
