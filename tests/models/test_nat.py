"""NAT, DiNAT and DiNATs against what their authors' code answers for weights that are a function of names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fill import fill_state_dict, input_image
from oracle_files import oracle

import segzoo
from segzoo.models.layers import NeighborhoodAttention

ENTRIES = ["nat-mini", "nat-tiny", "dinat-mini", "dinats-tiny"]
CASES = [
    ("nat-mini", ""),
    ("nat-mini", "odd_"),
    ("nat-tiny", "small_"),
    ("dinat-mini", ""),
    ("dinat-mini", "small_"),
    ("dinats-tiny", "odd_"),
]
SLOW_CASES = [("nat-tiny", ""), ("dinat-mini", "nopad_"), ("dinats-tiny", ""), ("dinats-tiny", "nopad_")]


def spec(entry: str) -> dict:
    return json.loads(oracle(f"{entry}/spec.json").read_text())


def filled_model(entry: str) -> torch.nn.Module:
    model = segzoo.create_model(entry)
    model.load_state_dict(fill_state_dict(model.state_dict()))
    return model


@pytest.mark.parametrize("entry", ENTRIES)
def test_state_dict_has_the_authors_keys_and_shapes_in_their_order(entry):
    facts = spec(entry)
    state = segzoo.create_model(entry, device="meta").state_dict()
    floating = {key: list(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}
    assert list(floating.items()) == list(facts["state_dict"].items())
    assert set(state) - set(floating) == set(facts["integer_buffers"])


@pytest.mark.parametrize("entry", ENTRIES)
def test_parameter_counts_by_part(entry):
    facts = spec(entry)
    model = segzoo.create_model(entry, device="meta")
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == facts["params_by_part"]
    assert sum(counts.values()) == facts["params_total"]


def check_logits(entry: str, case: str) -> None:
    facts, recorded = spec(entry), np.load(oracle(f"{entry}/output.npz"))
    given = facts["inputs"][case]
    model = filled_model(entry)
    with torch.inference_mode():
        image = torch.from_numpy(input_image(given["name"], tuple(given["shape"])))
        outputs = model.forward_outputs(image)
        features = model.backbone(image)
    step = facts["class_step"]
    for name, stride in (("logits", "subsample"), ("aux_logits", "aux_subsample")):
        expected, every = recorded[case + name], int(recorded[case + stride])
        measured = outputs[name][:, ::step, ::every, ::every].numpy()
        assert measured.shape == expected.shape
        assert np.abs(measured - expected).max() <= 1e-4 * expected.std()
    for index, feature in enumerate(features):
        assert feature.mean().item() == pytest.approx(float(recorded[f"{case}feat{index}_mean"]), abs=1e-4)
        assert feature.std(correction=0).item() == pytest.approx(float(recorded[f"{case}feat{index}_std"]), rel=1e-4)


@pytest.mark.parametrize(("entry", "case"), CASES)
def test_logits_equal_the_originals(entry, case):
    check_logits(entry, case)


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), SLOW_CASES)
def test_logits_equal_the_originals_for_the_larger_cases(entry, case):
    check_logits(entry, case)


def test_padded_tokens_take_part_in_the_softmax():
    # A 3x3 map under a 7x7 window: every query sees all 9 tokens and 40 padded ones, whose q, k, v are the bias.
    torch.manual_seed(0)
    layer = NeighborhoodAttention(8, num_heads=2, kernel_size=7).double()
    torch.nn.init.normal_(layer.rpb)
    tokens = torch.randn(1, 3, 3, 8, dtype=torch.float64)
    padded = torch.zeros(1, 7, 7, 8, dtype=torch.float64)
    padded[:, :3, :3] = tokens
    query, key, value = (part.reshape(49, 2, 4) for part in layer.qkv(padded).chunk(3, dim=-1))
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    bias = layer.rpb[:, rows[None] - rows[:, None] + 6, columns[None] - columns[:, None] + 6]
    weights = (torch.einsum("qhd,khd->hqk", query, key) / 2 + bias).softmax(-1)
    expected = layer.proj(torch.einsum("hqk,khd->qhd", weights, value).reshape(1, 7, 7, 8)[:, :3, :3])
    torch.testing.assert_close(layer(tokens), expected)


def test_fusing_batch_norms_keeps_the_logits():
    model = segzoo.create_model("nat-mini")
    model.load_state_dict(fill_state_dict(model.state_dict()))
    image = torch.from_numpy(input_image("fuse", (1, 3, 64, 96)))
    with torch.inference_mode():
        before = model(image)
        after = model.fuse()(image)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert (after - before).abs().max() <= 1e-4 * before.std()


def test_a_model_can_be_made_with_folded_batch_norms():
    model = segzoo.create_model("nat-pico", fuse=True)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_another_number_of_classes():
    model = segzoo.create_model("nat-mini", num_classes=7, device="meta")
    assert model(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 7, 16, 16)


def test_layer_scale_parameters_are_named_gamma():
    state = segzoo.create_model("nat-base", device="meta").state_dict()
    assert state["backbone.levels.0.blocks.0.gamma1"].shape == (128,)
    assert state["backbone.levels.3.blocks.4.gamma2"].shape == (1024,)
