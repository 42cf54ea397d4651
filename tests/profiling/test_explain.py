"""Counting conventions side by side, the tree of modules, and the cost of a protocol."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.errors import UsageError
from segzoo.profiling import conventions
from segzoo.profiling.conventions import module_hooks
from segzoo.profiling.explain import explain_run, protocol_run
from segzoo.profiling.operations import count_operations


class Small(nn.Module):
    """Layers whose products can be counted by hand, some of them called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.linear = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.up(self.depthwise(self.conv(image)))
        tokens = self.linear(maps.flatten(2).transpose(1, 2))
        attended = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return attended.transpose(1, 2).reshape(*image.shape[:1], 5, *image.shape[2:])


# 8x12 pixels: the convolutions give 4x6 places, the transposed one 8x12 again.
CONV, DEPTHWISE, UP, LINEAR = 24 * 8 * 27, 24 * 8 * 9, 24 * 8 * 4 * 4, 96 * 4 * 5
ATTENTION = 2 * 96 * 96 * 5


def test_hooks_see_modules_and_no_functions():
    seen = module_hooks(Small(), (1, 3, 8, 12))
    assert seen.macs == CONV + DEPTHWISE + UP + LINEAR
    plain = count_operations(Small(), (1, 3, 8, 12), rule="multiply-add")
    assert plain.macs == seen.macs + ATTENTION


def test_every_convention_counts_the_same_convolutions():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    counts = {item.name: item.macs for item in conventions.conventions(network, (1, 3, 8, 12))}
    # The rule fvcore adds nothing here: the logits have the image's size already.
    assert set(counts.values()) == {96 * 8 * 27 + 96 * 2 * 8}
    assert len(counts) == 6


def test_a_model_too_large_for_fvcores_trial_run_is_not_run(monkeypatch):
    monkeypatch.setattr(conventions, "FVCORE_LIMIT_MACS", 1e3)
    item = conventions.fvcore(Small(), (1, 3, 8, 12), 2000)
    assert item.macs is None and "give a smaller --shape" in item.leaves_out


def test_the_convention_of_a_published_figure_is_found(monkeypatch):
    # The authors of this row counted with thop, which leaves out the products of attention.
    monkeypatch.setattr(conventions, "FVCORE_LIMIT_MACS", 0.0)
    run = explain_run("segformer-b2-nota")
    verdicts = {row["convention"]: row["reproduces"] for row in run.breakdown["convention"]}
    assert verdicts["segzoo, rule thop"] == "yes, nearest"
    assert verdicts["segzoo, multiply-add"] == verdicts["torch FlopCounterMode"] == "no"
    assert verdicts["fvcore itself"] is None
    assert run.metrics["macs_published"] == 58.576e9


def test_a_tree_adds_up():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), nn.Conv2d(8, 2, 1))
    tree = count_operations(network, (1, 3, 8, 12), rule="multiply-add").tree(network, 1)
    assert [(row["module"], row["params"], row["macs_by_rule"]) for row in tree] == [
        ("Sequential", 224 + 18, 96 * 8 * 27 + 96 * 16), ("· 0", 224, 96 * 8 * 27), ("· 1", 18, 96 * 16),
    ]  # fmt: skip
    assert tree[0]["share_percent"] == 100.0
    assert len(count_operations(network, (1, 3, 8, 12)).tree(network, 2)) == 4


def test_a_protocol_of_windows_costs_as_many_inputs():
    # 512x683 is the picture itself; windows of 512 every 341 pixels along 683: at 0 and 171.
    run = protocol_run("cae-base-1600e", shape=(512, 683))
    assert run.metrics["network_inputs"] == 2 and run.breakdown["input"][0]["input"] == "512x512"


def test_the_tables_exclude_one_another():
    from segzoo.cli.profile import flops

    with pytest.raises(UsageError, match="give one of them"):
        flops(["nat-pico"], tree=1, explain=True)


def test_the_tree_is_in_the_record(capsys):
    from segzoo.cli.profile import flops

    flops(["nat-pico"], shape="64x96", tree=1, json=True, quiet=True)
    run = json.loads(capsys.readouterr().out)
    rows = run["breakdown"]["tree"]
    assert [row["module"] for row in rows] == ["Segmentor", "· backbone", "· decode_head"]
    assert rows[0]["macs_by_rule"] == rows[1]["macs_by_rule"] + rows[2]["macs_by_rule"]
    assert torch.is_grad_enabled()
