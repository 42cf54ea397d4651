"""The compiler and ninja of this machine, and the file that tells ninja what to do."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.errors import UnavailableError
from segzoo.kernels import cuda_toolchain
from segzoo.kernels.cuda_toolchain import CudaToolchain
from segzoo.kernels.sources import CPU, CUDA, Operator

# the least libtorch whose stable C interface the sources call: 2.10
_STABLE_ABI = "0x020a000000000000"
STABLE_ABI_DEFINE = f"-DTORCH_TARGET_VERSION={_STABLE_ABI}"
_FLAGS = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", STABLE_ABI_DEFINE)
_MOST_JOBS = 4  # a compile takes about 300 MB; more jobs gain nothing with so few files


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """Programs that compile, with the first line of the compiler's `--version`; `cuda` for CUDA's operators alone."""

    compiler: str
    version: str
    ninja: str
    cuda: CudaToolchain | None = None

    @property
    def title(self) -> str:
        """For messages: which compiler, of which version, for what."""
        return self.cuda.title if self.cuda else f"{self.compiler} ({self.version})"


def find_toolchain(device: str = CPU, architectures: Sequence[str] = ()) -> Toolchain:
    """The compiler named by CXX, else c++, g++ or clang++, and ninja; for "cuda" nvcc beside them.

    Args:
        device: "cpu" or "cuda".
        architectures: of CUDA, such as "80" and "90"; those of this machine's devices when empty.

    Raises:
        UnavailableError: one is missing or does not run, or there is no CUDA device to compile for.
        UsageError: an architecture that is none.
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
    cuda = cuda_toolchain.find_cuda(compiler, architectures) if device == CUDA else None
    return Toolchain(compiler=compiler, version=_version(compiler), ninja=ninja, cuda=cuda)


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


def shaping_words(operator: Operator, tools: Toolchain) -> list[str]:
    """All that shapes an operator's object code beside its sources: flags, compilers, platform, processor.

    Torch's folder has no part in it, only its version, which the caller adds.
    """
    torch_folder = Path("torch")
    words = [*operator.defines, *(f"{unit.name} {unit.source} {unit.flags}" for unit in operator.units)]
    words += [tools.compiler, tools.version, platform.system(), platform.machine()]
    if tools.cuda is None:
        return [*words, *compile_flags(torch_folder), *link_flags(torch_folder), cpu_features()]
    cuda = tools.cuda
    flags = [*cuda_toolchain.compile_flags(cuda, torch_folder), *cuda_toolchain.link_flags(cuda, torch_folder)]
    return [*words, STABLE_ABI_DEFINE, cuda.nvcc, cuda.version, *flags]


def ninja_file(operator: Operator, tools: Toolchain, sources: Path, torch_folder: Path, target: str) -> str:
    """The text of build.ninja: one edge an object file, one for the link to `target`."""
    defines = [f"-D{word}" for word in operator.defines]
    lines = []
    for rule, command in _commands(tools, torch_folder).items():
        lines += [f"rule {rule}", f"  command = {command}", f"  description = {rule} $in"]
    for unit in operator.units:
        source = str(sources / unit.source).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
        rule = "compile_cuda" if unit.source.endswith(".cu") else "compile"
        lines += [f"build {unit.name}.o: {rule} {source}", f"  flags = {_shell(*defines, *unit.flags)}"]
    objects = " ".join(f"{unit.name}.o" for unit in operator.units)
    return "\n".join([*lines, f"build {target}: link {objects}", f"default {target}", ""])


def _commands(tools: Toolchain, torch_folder: Path) -> dict[str, str]:
    """The command line of each rule."""
    compiler = _shell(tools.compiler)
    commands = {"compile": f"{compiler} {_shell(*compile_flags(torch_folder))} $flags -c $in -o $out"}
    if tools.cuda is None:
        return commands | {"link": f"{compiler} -o $out $in {_shell(*link_flags(torch_folder))}"}
    nvcc = _shell(tools.cuda.nvcc)
    compile_words = _shell(STABLE_ABI_DEFINE, *cuda_toolchain.compile_flags(tools.cuda, torch_folder))
    link_words = _shell(*cuda_toolchain.link_flags(tools.cuda, torch_folder))
    return commands | {
        "compile_cuda": f"{nvcc} {compile_words} $flags -c $in -o $out",
        "link": f"{nvcc} -o $out $in {link_words}",
    }


def _shell(*words: str) -> str:
    return shlex.join(words).replace("$", "$$")
