"""Groups of parameters: layer-wise learning rates against the original's, substring rules by hand."""

from __future__ import annotations

import json

import pytest
import torch
from oracle_files import oracle

import segzoo
from segzoo.training.parameter_groups import layer_of, parameter_groups
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.schema import LayerDecay, Recipe


def recipe_of(name: str) -> Recipe:
    manifest = load_manifest()
    return manifest.recipes[manifest.models[name].recipe]


def test_layer_wise_rates_equal_the_originals():
    facts = json.loads(oracle("cae-base/param_groups.json").read_text())
    model = segzoo.create_model("cae-base-300e", device="meta")
    groups = parameter_groups(model.named_parameters(), recipe_of("cae-base-300e"))
    summary = [
        {
            "group_name": group["name"],
            "lr_scale": group["lr_scale"],
            "weight_decay": group["weight_decay"],
            "n_params": len(group["params"]),
            "n_elements": sum(p.numel() for p in group["params"]),
        }
        for group in groups
    ]
    assert summary == facts["groups"]
    by_name = {name: group for group in groups for name in group["names"]}
    assert by_name.keys() == facts["params"].keys()
    for name, expected in facts["params"].items():
        assert by_name[name]["lr_scale"] == expected["lr_scale"]
        assert by_name[name]["lr"] == pytest.approx(3e-4 * expected["lr_scale"], rel=1e-12)
        assert by_name[name]["weight_decay"] == expected["weight_decay"]


def test_the_large_models_rates_fall_slowly():
    model = segzoo.create_model("cae-large-1600e", device="meta")
    groups = {g["name"]: g for g in parameter_groups(model.named_parameters(), recipe_of("cae-large-1600e"))}
    assert groups["layer_0_decay"]["lr"] == pytest.approx(4e-5 * 0.95**25)
    assert groups["layer_24_decay"]["lr"] == pytest.approx(4e-5 * 0.95)
    assert groups["layer_25_decay"]["lr"] == pytest.approx(4e-5)


def test_stages_count_as_layers_for_convnext():
    decay = LayerDecay(rate=0.9, layers=6, kind="stage")
    names = ["backbone.downsample_layers.3.1.weight", "backbone.stages.0.2.gamma", "backbone.stages.3.0.gamma"]
    assert [layer_of(name, decay) for name in names] == [0, 1, 4]
    assert layer_of("backbone.norm3.weight", decay) == layer_of("decode_head.conv_seg.weight", decay) == 7


def test_substring_rules_take_the_longest_key_and_leave_the_rest_alone():
    parameters = {name: torch.nn.Parameter(torch.zeros(2)) for name in ("a.weight", "a.norm.weight", "a.norm_x.rpb")}
    parameters["frozen"] = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    rules = {"norm": {"decay_mult": 0.0}, "norm_x": {"lr_mult": 0.1}, "rpb": {"decay_mult": 0.0}}
    recipe = Recipe(lr=0.5, weight_decay=0.2, paramwise=rules, iterations=1, batch_size=1, crop=(8, 8))
    groups = parameter_groups(parameters.items(), recipe)
    assert [(g["names"], g["lr"], g["weight_decay"]) for g in groups] == [
        (["a.weight"], 0.5, 0.2),
        (["a.norm.weight"], 0.5, 0.0),
        (["a.norm_x.rpb"], 0.05, 0.2),
    ]
    torch.optim.AdamW(groups)
