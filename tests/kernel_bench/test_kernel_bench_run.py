"""`segzoo kernel bench` in this process, on a problem that takes no time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from segzoo import kernels
from segzoo.cli import kernel
from segzoo.errors import UnavailableError, UsageError
from segzoo.kernel_bench import neighborhood, network, run
from segzoo.kernel_bench.contest import QUICK, Contest, run_contest
from segzoo.kernel_bench.memory import peak_bytes
from segzoo.kernel_bench.record import Result, Samples
from segzoo.kernel_bench.targets import target
from segzoo.results import read_run


def test_contestants_take_turns() -> None:
    order: list[str] = []
    spin = [lambda name=name: (order.append(name), torch.ones(300_000).sum()) for name in "ab"]
    samples = run_contest(Contest(case="c", ours=spin[0], rival=spin[1]), QUICK)
    assert len(samples.ours_ms) == len(samples.rival_ms) == QUICK.rounds
    # two calls each that find the length of a turn, then QUICK.rounds alternating turns
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns == ["a", "b"] * (QUICK.rounds + 1)


def test_peak_memory_is_that_of_what_lives_at_once() -> None:
    def two_then_one() -> torch.Tensor:
        first, second = torch.ones(8 * 2**20), torch.ones(8 * 2**20)  # 32 MiB each
        return first.add_(second)

    assert 60 * 2**20 < peak_bytes(two_then_one) < 80 * 2**20


def test_bench_writes_a_record_and_prints_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels.load() != "native":
        pytest.skip(f"no compiled kernel here: {kernels.notes()}")
    monkeypatch.setattr(neighborhood, "STAGES", (neighborhood.Stage(16, 2),))
    file = tmp_path / "record.json"
    result = CliRunner().invoke(kernel.app, ["bench", "neighborhood-peak", "--quick", "-o", str(file)])
    assert result.exit_code == 0, result.output
    assert "few rounds (--quick)" in result.stdout
    assert "neighborhood-peak" in result.stdout and "16x16, 2 heads" in result.stdout
    record = read_run(file)
    assert record.status == "partial" and record.conditions["threads"] == 1
    assert record.metrics["multiply_add_flops_per_second"] > 1e9
    assert record.metrics["copy_bytes_per_second"] > 1e8
    assert 0 < record.breakdown["claim"][0]["measured"] <= 110
    answer = json.loads(CliRunner().invoke(kernel.app, ["bench", "neighborhood-peak", "--quick", "--json"]).stdout)
    assert answer["command"] == "kernel bench"


def test_the_note_on_the_rival_names_the_ratio_that_no_program_can_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = neighborhood.Stage(16, 2)
    monkeypatch.setattr(neighborhood, "STAGES", (stage,))
    assert stage.flops == 4 * 16 * 16 * 2 * 49 * 32
    # a rival that takes 4 ms for what takes 1 ms at the peak
    samples = [Samples(case="c", ours_ms=[2.0], rival_ms=[4.0])]
    note = run._forward_bound(
        Result(target=target("neighborhood-forward"), samples=samples),
        {"multiply_add_flops_per_second": stage.flops * 1000.0},
    )
    assert "at 25 % of the multiply-add peak" in note and "4.0 x as fast" in note


def test_the_note_on_the_backbone_says_what_an_operator_without_a_cost_would_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "shared_part", lambda: network.SharedPart(0.5, 10**9))
    samples = [Samples(case="backbone", ours_ms=[700.0], rival_ms=[1500.0])]
    note = run._backbone_bound(
        Result(target=target("nat-tiny-backbone"), samples=samples), {"multiply_add_flops_per_second": 2.5e9}
    )
    assert "share take 500 ms and would take 400 ms at the multiply-add peak" in note and "give 3.0 x" in note


def test_the_shared_part_of_the_backbone_is_all_but_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SIDE", 64)
    monkeypatch.setattr(network, "_SHARED_CALLS", 2)
    shared = network.shared_part()
    backbone = network._model().backbone
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        backbone(network._image())
    by_operator = counter.get_flop_counts()["Global"]
    attention = sum(flops for name, flops in by_operator.items() if "neighborhood" in str(name))
    assert shared.seconds > 0 and attention > 0
    assert shared.flops == counter.get_total_flops() - attention


def test_a_row_that_does_not_exist_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="no row 'speed'"):
        run.bench_run(["speed"])


def test_without_compiled_kernels_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "load", lambda: "reference")
    with pytest.raises(UnavailableError, match="nothing to measure"):
        run.bench_run([])
