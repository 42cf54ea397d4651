"""What ptxas says of each kernel when nvcc compiles a .cu file of csrc/: registers, spills, stack."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from segzoo.errors import UnavailableError
from segzoo.kernels import cuda_toolchain, toolchain
from segzoo.kernels.build import torch_folder
from segzoo.kernels.cuda_toolchain import CudaToolchain
from segzoo.kernels.sources import Operator, Unit

_KERNEL = re.compile(r"Compiling entry function '(?P<name>[^']+)' for 'sm_(?P<architecture>\d+a?)'")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of one architecture."""

    name: str
    architecture: str
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int

    @property
    def spills(self) -> bool:
        return self.spill_store_bytes + self.spill_load_bytes > 0

    def __str__(self) -> str:
        spills = f"{self.spill_store_bytes} + {self.spill_load_bytes} bytes of spills"
        return f"{self.name} on sm_{self.architecture}: {self.registers} registers, {spills}"


def cuda_tools() -> CudaToolchain:
    """nvcc for both architectures; skips without one."""
    try:
        tools = toolchain.find_toolchain("cuda", ("80", "90"))
    except UnavailableError as error:
        pytest.skip(str(error))
    assert tools.cuda is not None
    return tools.cuda


def compiled(operator: Operator, unit: Unit, folder: Path) -> list[Kernel]:
    """The kernels of an object file, compiled with the builder's own flags into `folder`. Skips without nvcc."""
    tools = cuda_tools()
    flags = cuda_toolchain.compile_flags(tools, torch_folder())
    words = [toolchain.STABLE_ABI_DEFINE, *flags, *(f"-D{word}" for word in operator.defines), *unit.flags]
    target = str(folder / f"{unit.name}.o")
    command = [tools.nvcc, *words, "-Xptxas", "-v", "-c", str(operator.folder / unit.source), "-o", target]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return parsed(demangled(result.stderr))


def linked(operator: Operator, folder: Path) -> Path:
    """The library of the operator's object files in `folder`, with the builder's own flags."""
    tools = cuda_tools()
    target, objects = folder / f"{operator.library}.so", [str(folder / f"{unit.name}.o") for unit in operator.units]
    command = [tools.nvcc, "-o", str(target), *objects, *cuda_toolchain.link_flags(tools, torch_folder())]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return target


def parsed(report: str) -> list[Kernel]:
    """The kernels of ptxas's report, in its order."""
    found = []
    for part in re.split(r"(?=Compiling entry function)", report)[1:]:
        kernel, memory, registers = _KERNEL.search(part), _MEMORY.search(part), _REGISTERS.search(part)
        assert kernel and memory and registers, part
        stack, stores, loads = map(int, memory.groups())
        found.append(
            Kernel(
                name=kernel["name"].removeprefix("void segzoo::").partition("(")[0],
                architecture=kernel["architecture"],
                registers=int(registers[1]),
                stack_bytes=stack,
                spill_store_bytes=stores,
                spill_load_bytes=loads,
            )
        )
    return found


def demangled(text: str) -> str:
    program = shutil.which("c++filt")
    return subprocess.run([program], input=text, capture_output=True, text=True, check=True).stdout if program else text
