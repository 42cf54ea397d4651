"""Every .cu file compiles for sm_80 and sm_90 where nvcc is found, and no kernel spills registers."""

from __future__ import annotations

from pathlib import Path

import ptxas_report
import pytest

from segzoo.kernels.sources import operators


@pytest.mark.parametrize("source", ptxas_report.sources(), ids=lambda source: source.parent.name)
def test_every_kernel_compiles_for_both_architectures_without_spills(source: Path, tmp_path: Path) -> None:
    kernels = ptxas_report.compiled(source, tmp_path, defines=_defines(source))
    assert {kernel.architecture for kernel in kernels} == {"80", "90"}
    assert [str(kernel) for kernel in kernels if kernel.spills] == []


def _defines(source: Path) -> tuple[str, ...]:
    """Those of the first library that is built of this source."""
    found = [operator.defines for operator in operators("cuda") if operator.name == source.parent.name]
    return found[0] if found else ()


def test_every_cuda_source_belongs_to_an_operator() -> None:
    assert {source.parent.name for source in ptxas_report.sources()} >= {item.name for item in operators("cuda")}


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
