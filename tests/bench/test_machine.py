"""Other work on the machine, energy counters, and what a protocol costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from segzoo.bench import machine
from segzoo.errors import UsageError
from segzoo.profiling import energy
from segzoo.profiling.protocol_cost import count_protocol, network_inputs
from segzoo.protocol import Protocol


def test_other_work_is_busy_time_that_is_not_ours(monkeypatch):
    seconds = iter([(100.0, 400.0), (108.0, 416.0)])
    own = iter([5.0, 9.0])
    monkeypatch.setattr(machine, "_machine_seconds", lambda: next(seconds))
    monkeypatch.setattr(machine, "_own_seconds", lambda: next(own))
    # 8 of 16 seconds were busy, 4 of them ours.
    assert machine.OtherWork().percent() == 25.0


def test_without_proc_stat_other_work_is_unknown(monkeypatch):
    monkeypatch.setattr(machine, "_machine_seconds", lambda: None)
    assert machine.OtherWork().percent() is None


def test_rapl_counters_are_added_and_a_reset_is_not_negative_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    files = [tmp_path / f"intel-rapl:{index}" / "energy_uj" for index in range(2)]
    for file in files:
        file.parent.mkdir()
        file.write_text("1000000\n")
    # A sub-domain is part of its package and must not be counted twice.
    (tmp_path / "intel-rapl:0:0").mkdir()
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("500")
    meter = energy.EnergyMeter(torch.device("cpu"))
    files[0].write_text("3500000\n")
    assert meter.available and meter.read() == 2.5
    files[0].write_text("0\n")
    files[1].write_text("0\n")
    assert meter.read() is None


def test_without_a_counter_there_is_no_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", Path(tmp_path))
    assert not energy.EnergyMeter(torch.device("cpu")).available
    assert energy.EnergyMeter(torch.device("cpu")).read() is None


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        # 100x200 fitted into (256, 64): 64x128.
        (Protocol(scale=(256, 64)), {(64, 128): 1}),
        (Protocol(scale=(256, 64), flip=True), {(64, 128): 2}),
        (Protocol(scale=(256, 64), ratios=(0.5, 1.0)), {(32, 64): 1, (64, 128): 1}),
        (Protocol(scale=(256, 60), size_divisor=32), {(64, 128): 1}),
        # Windows of 64 every 32 pixels along 128: at 0, 32 and 64.
        (Protocol(scale=(256, 64), mode="slide", crop=(64, 64), stride=(32, 32)), {(64, 64): 3}),
        (Protocol(scale=(256, 64), mode="slide", crop=(80, 80), stride=(80, 80)), {(64, 80): 2}),
        (Protocol(scale=(256, 64), mode="slide", crop=(80, 80), stride=(80, 80), pad_windows=True), {(80, 80): 2}),
    ],
)
def test_the_network_inputs_of_a_protocol(protocol, expected):
    assert network_inputs((100, 200), protocol) == Counter(expected)


def test_a_protocol_costs_the_sum_of_its_inputs():
    network = nn.Conv2d(3, 5, 1)
    cost = count_protocol(network, (100, 200), Protocol(scale=(256, 64), ratios=(0.5, 1.0), flip=True))
    assert cost.macs == 15 * 2 * (32 * 64 + 64 * 128)
    assert cost.inputs == 4
    assert [(row["input"], row["times"]) for row in cost.rows] == [("32x64", 2), ("64x128", 2)]


def test_a_picture_that_a_scale_makes_vanish_is_refused():
    with pytest.raises(UsageError, match="use a larger scale"):
        network_inputs((1, 5000), Protocol(scale=(64, 64)))
