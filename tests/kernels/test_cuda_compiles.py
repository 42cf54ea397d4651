"""Every .cu file compiles for sm_80 and sm_90 where nvcc is found, and no hot kernel spills registers."""

from __future__ import annotations

from pathlib import Path

import ptxas_report
import pytest

from segzoo import paths
from segzoo.kernels.sources import Operator, Unit, operators

_UNITS = [
    pytest.param(operator, unit, id=f"{operator.name}-{unit.name}")
    for operator in operators("cuda")
    for unit in operator.units
]


@pytest.mark.parametrize(("operator", "unit"), _UNITS)
def test_every_kernel_compiles_for_both_architectures_and_no_hot_one_spills(
    operator: Operator, unit: Unit, tmp_path: Path
) -> None:
    kernels = ptxas_report.compiled(operator, unit, tmp_path)
    assert {kernel.architecture for kernel in kernels} <= {"80", "90"}
    assert [str(kernel) for kernel in kernels if kernel.spill_store_bytes > most_spills(kernel)] == []


def most_spills(kernel: ptxas_report.Kernel) -> int:
    """0, but for neighborhood attention with another kernel size than 7: a few values, never the sums."""
    other_size = kernel.name.startswith(("forward_kernel<", "backward_")) and kernel.name.endswith(", 0>")
    return 32 if other_size else 0


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
