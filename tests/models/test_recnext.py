"""RecNeXt and Semantic FPN against what the authors' code answers for weights that are a function of names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fill import fill_state_dict, input_image
from oracle_files import oracle

import segzoo
from segzoo.models.backbones.recnext import LinearAttention
from segzoo.profiling.operations import count_operations

# segmentation and classification tables of the authors: fused classifier's millions of parameters, GMACs at 224.
CLASSIFIERS = {
    "recnext-m3": (8.2, 1.4),
    "recnext-m4": (14.1, 2.4),
    "recnext-m5": (22.9, 4.7),
    "recnext-a3": (9.0, 1.4),
    "recnext-a4": (15.8, 2.4),
    "recnext-a5": (25.7, 4.7),
}


def spec(entry: str) -> dict:
    return json.loads(oracle(f"{entry}/spec.json").read_text())


def filled_model(entry: str, *, tame: bool) -> torch.nn.Module:
    """Plain filled weights make the signal explode and hide biases; the tame ones scale the residual branches."""
    rule = spec(entry)["tame"]
    model = segzoo.create_model(entry)
    state = fill_state_dict(model.state_dict())
    if tame:
        state = {
            key: value * rule["factor"] if key.endswith(rule["key_suffix"]) else value for key, value in state.items()
        }
    model.load_state_dict(state)
    return model


def image_of(entry: str, case: str) -> torch.Tensor:
    given = spec(entry)["inputs"][case]
    return torch.from_numpy(input_image(given["name"], tuple(given["shape"])))


@pytest.mark.parametrize("entry", ["recnext-m3", "recnext-a3"])
def test_state_dict_has_the_authors_keys_and_shapes_in_their_order(entry):
    facts = spec(entry)
    state = segzoo.create_model(entry, device="meta").state_dict()
    # The A series' fact is its backbone alone; neck and head are those of the M series.
    state = {key: tensor for key, tensor in state.items() if entry == "recnext-m3" or key.startswith("backbone.")}
    floating = {key: list(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}
    assert list(floating.items()) == list(facts["state_dict"].items())
    assert set(state) - set(floating) == set(facts["integer_buffers"])


def test_parameter_counts_by_part():
    facts = spec("recnext-m3")
    model = segzoo.create_model("recnext-m3", device="meta")
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == facts["params_by_part"]
    assert sum(counts.values()) == facts["params_total"]


@pytest.mark.parametrize("case", ["", "tame_"])
def test_logits_equal_the_originals_before_and_after_folding(case):
    facts, recorded = spec("recnext-m3"), np.load(oracle("recnext-m3/output.npz"))
    model = filled_model("recnext-m3", tame=case == "tame_")
    image = image_of("recnext-m3", "")
    every, step = int(recorded["subsample"]), facts["class_step"]
    with torch.inference_mode():
        features = model.backbone(image)
        measured = {"logits": model(image), "fused_logits": model.fuse()(image)}
    for name, logits in measured.items():
        expected = recorded[case + name]
        difference = logits[:, ::step, ::every, ::every].numpy() - expected
        assert difference.shape == expected.shape
        assert np.abs(difference).max() <= 1e-4 * expected.std()
    for index, feature in enumerate(features):
        deviation = float(recorded[f"{case}feat{index}_std"])
        assert feature.mean().item() == pytest.approx(float(recorded[f"{case}feat{index}_mean"]), abs=1e-4 * deviation)
        assert feature.std(correction=0).item() == pytest.approx(deviation, rel=1e-4)


@pytest.mark.parametrize("entry", ["recnext-m3", "recnext-a3"])
def test_features_of_odd_sizes_equal_the_originals(entry):
    recorded = np.load(oracle(f"{entry}/output.npz"))
    model = filled_model(entry, tame=True)
    with torch.inference_mode():
        features = model.backbone(image_of(entry, "odd_"))
        logits = model(image_of(entry, "odd_"))
    for index, feature in enumerate(features):
        expected, every = recorded[f"odd_feat{index}"], 4 if index < 2 else 1
        difference = feature[:, ::8, ::every, ::every].numpy() - expected
        assert np.abs(difference).max() <= 1e-4 * expected.std()
    assert logits.shape == (1, 150, 40, 53)


def test_folding_gives_the_authors_fused_keys_and_keeps_the_single_batch_norms():
    facts = spec("recnext-m3")
    backbone = segzoo.create_model("recnext-m3", device="meta").fuse().backbone
    state = {key: list(tensor.shape) for key, tensor in backbone.state_dict().items()}
    assert list(state.items()) == list(facts["fused_backbone_state_dict"].items())


def test_folding_the_a_series_keeps_its_logits():
    model = filled_model("recnext-a3", tame=True)
    image = image_of("recnext-a3", "odd_")
    with torch.inference_mode():
        before, after = model(image), model.fuse()(image)
    left = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(left) == 3  # one in each `downsample`
    assert (after - before).abs().max() <= 1e-4 * before.std()


@pytest.mark.parametrize("entry", CLASSIFIERS)
def test_backbones_have_the_published_size_and_cost(entry):
    backbone = segzoo.create_model(entry, device="meta").fuse().backbone
    classifier = 1000 * backbone.out_channels[-1]
    params = sum(p.numel() for p in backbone.parameters()) + classifier + 1000
    macs = count_operations(backbone, (1, 3, 224, 224)).macs_by_rule + classifier
    assert (round(params / 1e6, 1), round(macs / 1e9, 1)) == CLASSIFIERS[entry]


def test_operations_equal_the_originals_counted_with_fvcore():
    facts = spec("recnext-m3")
    model = segzoo.create_model("recnext-m3", device="meta")
    shape = (1, 3, 512, 512)
    assert count_operations(model.backbone, shape).macs_by_rule == facts["backbone_macs_fvcore_512"]
    model.fuse()
    assert count_operations(model.backbone, shape).macs_by_rule == facts["backbone_macs_fvcore_512_fused"]


def test_both_orders_of_linear_attention_are_kernel_attention():
    torch.manual_seed(0)
    linear = LinearAttention(8, 2, quadratic=False).double().eval()
    quadratic = LinearAttention(8, 2, quadratic=True).double().eval()
    quadratic.load_state_dict(linear.state_dict())
    image = torch.randn(1, 8, 3, 5, dtype=torch.float64)
    query, key = (torch.nn.functional.elu(part) + 1 for part in linear.qk(image).chunk(2, dim=1))
    expected = linear.pe(image)
    for head in (slice(0, 4), slice(4, 8)):
        weights = query[0, head].flatten(1).T @ key[0, head].flatten(1)
        attended = weights / weights.sum(1, keepdim=True) @ image[0, head].flatten(1).T
        expected[0, head] += attended.T.reshape(4, 3, 5)
    # 1e-6 stands in the denominators of both, at different places.
    torch.testing.assert_close(linear(image), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(quadratic(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 31)])
def test_any_size_works(size):
    model = segzoo.create_model("recnext-a3", num_classes=3, device="meta")
    height, width = (-(-side // 4) for side in size)
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 3, height, width)
    model = segzoo.create_model("recnext-m3", num_classes=3, device="meta")
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 3, height, width)


def test_the_protocol_brings_both_sides_to_a_multiple_of_32():
    protocol = segzoo.get_protocol("recnext-m3")
    assert (protocol.mode, protocol.scale, protocol.size_divisor) == ("whole", (2048, 512), 32)
