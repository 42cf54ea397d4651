"""Every .cu file compiles for sm_80 and sm_90 where nvcc is found, no hot kernel spills registers, and PyTorch loads
what they link to.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ptxas_report
import pytest

from segzoo import paths
from segzoo.kernels.sources import Operator, Unit, cuda_rivals, operators

_UNITS = [
    pytest.param(operator, unit, id=f"{operator.name}-{unit.name}")
    for operator in operators("cuda")
    for unit in operator.units
]


Compiled = Callable[[Operator, Unit], list[ptxas_report.Kernel]]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the object files of all operators are."""
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def compiled(objects: Path) -> Compiled:
    """Compiles an object file unless a test before has, and gives its kernels."""

    @functools.cache
    def compile_once(operator: Operator, unit: Unit) -> list[ptxas_report.Kernel]:
        (objects / operator.name).mkdir(exist_ok=True)
        return ptxas_report.compiled(operator, unit, objects / operator.name)

    return compile_once


@pytest.mark.parametrize(("operator", "unit"), _UNITS)
def test_every_kernel_compiles_for_both_architectures_and_no_hot_one_spills(
    operator: Operator, unit: Unit, compiled: Compiled
) -> None:
    kernels = compiled(operator, unit)
    assert {kernel.architecture for kernel in kernels} <= {"80", "90"}
    assert [str(kernel) for kernel in kernels if kernel.spill_store_bytes > most_spills(kernel)] == []


def most_spills(kernel: ptxas_report.Kernel) -> int:
    """0, but for neighborhood attention with another kernel size than 7: a few values, never the sums."""
    other_size = kernel.name.startswith(("forward_kernel<", "backward_")) and kernel.name.endswith(", 0>")
    return 32 if other_size else 0


_LOAD = """
import sys
import torch
from segzoo import kernels
for library in sys.argv[1:]:
    torch.ops.load_library(library)
names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("segzoo")]
print(*sorted(name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")))
"""


def test_pytorch_loads_what_they_link_to_and_knows_the_kernels(compiled: Compiled, objects: Path) -> None:
    libraries = []
    for operator in (*operators("cuda"), cuda_rivals()):
        for unit in operator.units:
            compiled(operator, unit)
        libraries.append(ptxas_report.linked(operator, objects / operator.name))
    # Loading resolves every name. In a process of its own, since a library stays.
    command = [sys.executable, "-c", _LOAD, *map(str, libraries)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert result.stdout.split() == [
        "segzoo::deformable_attention",
        "segzoo::deformable_attention_backward",
        "segzoo::neighborhood_attention_2d",
        "segzoo::neighborhood_attention_2d_backward",
        "segzoo::segmentation_tail",
        "segzoo_rivals::deformable_classic",
        "segzoo_rivals::deformable_classic_backward",
    ], result.stderr


def test_every_cuda_source_is_a_unit_of_an_operator() -> None:
    units = {operator.folder / unit.source for operator in operators("cuda") for unit in operator.units}
    assert set(paths.kernel_sources().rglob("*.cu")) == units


_REPORT = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'void segzoo::one<float, 4>(segzoo::P)' for 'sm_80'
ptxas info    : Function properties for one
    16 bytes stack frame, 12 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 128 registers, used 0 barriers
ptxas info    : Compiling entry function 'two' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 38 registers, used 1 barriers
"""


def test_the_reader_of_the_report_finds_spills() -> None:
    one, two = ptxas_report.parsed(_REPORT)
    assert (one.name, one.architecture, one.registers, one.spills) == ("one<float, 4>", "80", 128, True)
    assert (two.name, two.architecture, two.registers, two.spills) == ("two", "90a", 38, False)
