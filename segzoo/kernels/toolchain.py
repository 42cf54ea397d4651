"""The compiler and ninja of this machine, and the file that tells ninja what to do."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from segzoo.errors import UnavailableError
from segzoo.kernels.sources import Operator

# the least libtorch whose stable C interface the sources call: 2.10
_STABLE_ABI = "0x020a000000000000"
_FLAGS = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", f"-DTORCH_TARGET_VERSION={_STABLE_ABI}")
_MOST_JOBS = 4  # a compile takes about 300 MB; more jobs gain nothing with so few files


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """Programs that compile, with the first line of the compiler's `--version`."""

    compiler: str
    version: str
    ninja: str


def find_toolchain() -> Toolchain:
    """The compiler named by CXX, else c++, g++ or clang++, and ninja.

    Raises:
        UnavailableError: either is missing, or the compiler does not run.
    """
    wanted = os.environ.get("CXX")
    candidates = [wanted] if wanted else ["g++", "c++", "clang++"]
    compiler = next((path for name in candidates if name and (path := shutil.which(name))), None)
    if compiler is None:
        what = f"CXX={wanted} is not a program" if wanted else "no C++ compiler (g++, c++, clang++) on PATH"
        raise UnavailableError(f"{what}; install one, or set SEGZOO_KERNELS=reference")
    # ninja's own wheel puts the program beside the interpreter, which need not be on PATH
    ninja = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    if ninja is None:
        raise UnavailableError("ninja is not installed; `pip install ninja`, or set SEGZOO_KERNELS=reference")
    return Toolchain(compiler=compiler, version=_version(compiler), ninja=ninja)


@functools.lru_cache
def _version(compiler: str) -> str:
    try:
        answer = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"the compiler {compiler} does not run: {error}") from error
    return (answer.stdout.splitlines() or ["unknown"])[0]


def cpu_features() -> str:
    """The processor's instruction sets as /proc/cpuinfo lists them; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "").strip()


def jobs() -> int:
    """How many compilers run at once: MAX_JOBS, else at most four and no more than there are cores."""
    chosen = os.environ.get("MAX_JOBS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else min(_MOST_JOBS, os.cpu_count() or 1)


def link_flags(torch_folder: Path) -> list[str]:
    """Flags of the link: torch's libraries are in the process already, only their names are recorded."""
    if platform.system() == "Darwin":
        return ["-dynamiclib", "-undefined", "dynamic_lookup"]
    return ["-shared", f"-L{torch_folder / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu"]


def compile_flags(torch_folder: Path) -> list[str]:
    """Flags of every object file; torch's headers count as system headers, so their warnings are not ours."""
    return [*_FLAGS, "-isystem", str(torch_folder / "include")]


def ninja_file(operator: Operator, toolchain: Toolchain, sources: Path, torch_folder: Path, target: str) -> str:
    """The text of build.ninja: one edge an object file, one for the link to `target`."""
    compiler = _shell(toolchain.compiler)
    lines = [
        "rule compile",
        f"  command = {compiler} {_shell(*compile_flags(torch_folder))} $flags -c $in -o $out",
        "  description = compiling $in",
        "rule link",
        f"  command = {compiler} -o $out $in {_shell(*link_flags(torch_folder))}",
    ]
    for unit in operator.units:
        source = str(sources / unit.source).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
        lines += [f"build {unit.name}.o: compile {source}", f"  flags = {_shell(*unit.flags)}"]
    objects = " ".join(f"{unit.name}.o" for unit in operator.units)
    return "\n".join([*lines, f"build {target}: link {objects}", f"default {target}", ""])


def _shell(*words: str) -> str:
    return shlex.join(words).replace("$", "$$")
