"""UN-EPT against what the authors' code answers for weights that are a function of names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fill import fill_state_dict, input_image
from oracle_files import oracle
from tap_matrix import matrix_of

import segzoo
from segzoo.errors import UsageError
from segzoo.inference import network
from segzoo.inference.windows import window_grid
from segzoo.models.backbones.deit import DistilledVisionTransformer
from segzoo.models.backbones.resnet import ResNet
from segzoo.models.segmentors.unept import UNEPT
from segzoo.profiling.operations import RESIZE, count_operations
from segzoo.weights.backbone import load_backbone

ENTRY = "unept-res50"


@pytest.fixture(scope="module")
def facts() -> dict:
    return json.loads(oracle(f"{ENTRY}/spec.json").read_text())


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    return dict(np.load(oracle(f"{ENTRY}/output.npz")))


@pytest.fixture(scope="module")
def filled_model() -> torch.nn.Module:
    model = segzoo.create_model(ENTRY)
    model.load_state_dict(fill_state_dict(model.state_dict()))
    return model


def small_model(*, image_size: int = 48, num_classes: int = 5) -> UNEPT:
    """One block a stage, 36 queries: the same code at a size that takes no time."""
    torch.manual_seed(0)
    backbone = ResNet(depths=[1, 1, 1, 1], strides=[1, 2, 1, 1], dilations=[1, 1, 2, 4])
    model = UNEPT(backbone, num_classes, channels=32, points=4, heads=4, hidden_dim=64, image_size=image_size)
    model.load_state_dict(fill_state_dict(model.state_dict()))
    return model.eval()


def image_of(given: dict) -> torch.Tensor:
    return torch.from_numpy(input_image(given["name"], tuple(given["shape"])))


def assert_close(measured: torch.Tensor, expected: np.ndarray) -> None:
    assert tuple(measured.shape) == expected.shape
    assert np.abs(measured.numpy() - expected).max() <= 1e-4 * expected.std()


def test_state_dict_has_the_authors_keys_and_shapes_in_their_order(facts):
    model = segzoo.create_model(ENTRY, device="meta")
    state = model.state_dict()
    floating = {key: list(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}
    assert list(floating.items()) == list(facts["state_dict"].items())
    assert set(state) - set(floating) == set(facts["integer_buffers"])
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert parts == facts["params_by_part"]
    assert sum(parts.values()) == facts["params_total"]


def test_features_of_every_stage_and_all_outputs_equal_the_originals(filled_model, facts, recorded):
    seen: dict[str, torch.Tensor] = {}
    branch = filled_model.context_branch
    named = {f"pyr{i}": layer for i, layer in enumerate(filled_model.layers)}
    named |= {f"enc{i}": layer for i, layer in enumerate(branch.encoder.layers)}
    named |= {f"dec{i}": layer for i, layer in enumerate(branch.decoder.layers)}
    named |= {"spatial": filled_model.spatial_branch}
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
        for name, module in named.items()
    ]
    hooks.append(
        filled_model.backbone.register_forward_hook(
            lambda module, inputs, output: seen.update({f"feat{i}": value for i, value in enumerate(output)})
        )
    )
    with torch.inference_mode():
        outputs = filled_model.forward_outputs(image_of(facts["input"]))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 12
    for name, value in seen.items():
        tokens_last = value.transpose(1, 2) if value.ndim == 3 else value
        channels, places = recorded[f"{name}_step"]
        sampled = tokens_last[
            (slice(None), slice(None, None, channels), *[slice(None, None, places)] * (value.ndim - 2))
        ]
        expected = recorded[f"{name}_sub"]
        sampled = sampled.transpose(1, 2) if value.ndim == 3 else sampled
        assert_close(sampled[tuple(slice(side) for side in expected.shape)], expected)
    step, every = facts["class_step"], int(recorded["subsample"])
    assert_close(outputs["logits"][:, ::step, ::every, ::every], recorded["logits"])
    for name, key in (("mask_map", "mask_logits"), ("dir_map", "direction_logits")):
        every = int(recorded[f"{name}_subsample"])
        assert_close(outputs[key][:, :, ::every, ::every], recorded[name])
    resized = F.interpolate(outputs["logits"], size=(480, 480), mode="bilinear")
    every = int(recorded["seg_logits_resized_subsample"])
    assert_close(resized[:, ::step, ::every, ::every], recorded["seg_logits_resized"])


@pytest.mark.slow
def test_a_batch_is_mixed_as_in_the_original_only_when_asked(filled_model, facts, recorded):
    images = image_of(facts["batch2_input"])
    step, every = facts["class_step"], int(recorded["batch2_subsample"])
    filled_model.mix_images = True
    with torch.inference_mode():
        mixed = filled_model(images)
        filled_model.mix_images = None
        together = filled_model(images)
        alone = torch.cat([filled_model(image[None]) for image in images])
    assert_close(mixed[:, ::step, ::every, ::every], recorded["batch2_logits"])
    assert_close(together, alone.numpy())
    assert (mixed - alone).abs().max() > 0.1 * alone.std()


@pytest.mark.slow
def test_logits_equal_the_originals_where_embeddings_matter(filled_model, facts, recorded):
    # Filled embeddings are small; at unit size a wrong one cannot hide.
    factor = facts["strong_embed_factor"]
    embeddings = (filled_model.query_embed.weight, filled_model.context_branch.level_embed)
    with torch.inference_mode():
        for tensor in embeddings:
            tensor.mul_(factor)
        logits = filled_model(image_of(facts["input"]))
        for tensor in embeddings:
            tensor.div_(factor)
    every = int(recorded["strong_embed_subsample"])
    assert_close(logits[:, :: facts["class_step"], ::every, ::every], recorded["logits_strong_embed"])


@pytest.mark.slow
def test_logits_of_padded_sliding_windows_equal_the_originals(filled_model, facts, recorded, monkeypatch):
    pixels = image_of(facts["slide_input"])[0]
    monkeypatch.setattr(network, "network_input", lambda image, protocol, ratio: pixels)
    picture = np.zeros((*pixels.shape[1:], 3), dtype=np.uint8)
    with torch.inference_mode():
        (view,) = network.Network(filled_model).views(picture, segzoo.get_protocol(ENTRY))
        rows, columns = (matrix_of(side)[:: int(recorded["slide_subsample"])] for side in (view.rows, view.columns))
        logits = torch.einsum("hr,krc,wc->khw", rows, view.values, columns)[None]
    assert_close(logits[:, :: facts["class_step"]], recorded["slide_logits"])


@pytest.mark.parametrize("entry", [ENTRY, "unept-deit", "unept-deit-pcontext"])
def test_windows_are_the_originals_and_all_as_large_as_the_queries(entry, facts):
    protocol = segzoo.get_protocol(entry)
    for words, expected in facts["slide_windows"].items():
        height, width = map(int, words.split("x"))
        rows, columns = window_grid((height, width), protocol)
        assert [[r.start, r.stop, c.start, c.stop] for r in rows for c in columns] == expected
        assert {window.padded for window in (*rows, *columns)} == {480}


def test_an_image_gets_the_same_answer_in_every_batch_but_not_in_training():
    model = small_model()
    images = torch.from_numpy(input_image("small", (3, 3, 48, 48)))
    with torch.inference_mode():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
        model.mix_images = True
        mixed, single = model(images), model(images[:1])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(single, alone[:1], rtol=1e-5, atol=1e-6)
    assert (mixed - alone).abs().max() > 0.01 * alone.std()
    # Training mode mixes by itself; without dropout and with fixed statistics it is `mixed`.
    model.mix_images = None
    model.train()
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.Dropout)):
            module.eval()
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    torch.testing.assert_close(model(images).detach(), mixed, rtol=1e-5, atol=1e-6)


def test_mixing_costs_what_attention_over_the_batch_costs_and_not_over_all_queries():
    model = segzoo.create_model(ENTRY, device="meta")
    batch, queries, channels, layers = 2, 3600, 256, 2
    alone = count_operations(model, (batch, 3, 480, 480)).macs
    model.mix_images = True
    mixed = count_operations(model, (batch, 3, 480, 480)).macs
    projections = batch * queries * channels * 2 * channels
    products = 2 * queries * batch * batch * channels
    assert mixed - alone == layers * (projections + products)


def test_gradients_reach_every_parameter():
    model = small_model().train()
    outputs = model.forward_outputs(torch.from_numpy(input_image("small", (2, 3, 48, 48))))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "logits": (2, 5, 6, 6),
        "mask_logits": (2, 2, 6, 6),
        "direction_logits": (2, 8, 6, 6),
    }
    sum(value.square().sum() for value in outputs.values()).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_folding_batch_norms_keeps_the_answer():
    model = small_model()
    image = torch.from_numpy(input_image("small", (1, 3, 48, 48)))
    with torch.inference_mode():
        before = model.forward_outputs(image)
        after = model.fuse().forward_outputs(image)
    assert not [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for key, expected in before.items():
        assert_close(after[key], expected.numpy())


@pytest.mark.parametrize("size", [(512, 512), (240, 960), (480, 512)])
def test_another_input_size_is_a_plain_error(size):
    model = segzoo.create_model(ENTRY, device="meta")
    with pytest.raises(UsageError, match=rf"takes 480x480 pixels, not {size[0]}x{size[1]}.*windows"):
        model(torch.empty(1, 3, *size, device="meta"))


def test_operations_equal_the_originals_but_for_what_one_image_does_not_need(facts):
    model = segzoo.create_model(ENTRY, device="meta")
    counted = {
        row["part"]: row["macs_by_rule"]
        for row in count_operations(model, (1, 3, 480, 480), resize_logits=True).by_part()
    }
    expected = dict(facts["macs_fvcore_480"])
    # The heads of the boundary take no part in inference, nor do query, key and weight of an attention to oneself:
    # two layers, projections of 3600 tokens from 256 to 512 channels, two products of 3600 x 256.
    del expected["mask_head"], expected["dir_head"]
    expected["context_branch"] -= 2 * (3600 * 256 * 512 + 2 * 3600 * 256)
    assert counted == {**expected, RESIZE: facts["macs_fvcore_480_resize"]}


def test_deit_has_the_order_of_the_authors_keys_and_position_table(facts):
    state = segzoo.create_model("unept-deit", device="meta").backbone.state_dict()
    assert list(dict.fromkeys(key.partition(".")[0] for key in state)) == facts["deit"]["order"]
    assert list(state["pos_embed"].shape) == facts["deit"]["pos_embed"]


def test_deit_equals_timms_distilled_transformer():
    timm = pytest.importorskip("timm")
    ours = DistilledVisionTransformer(embed_dim=192, num_heads=3, image_size=96).eval()
    ours.load_state_dict(fill_state_dict(ours.state_dict()))
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", img_size=96).eval()
    missing = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert sorted(missing.missing_keys) == [
        *("head.bias", "head.weight", "head_dist.bias", "head_dist.weight", "norm.bias", "norm.weight")
    ]
    assert not missing.unexpected_keys
    image = torch.from_numpy(input_image("deit", (2, 3, 96, 96)))
    with torch.inference_mode():
        expected = theirs.forward_intermediates(image, indices=[3, 7, 11], norm=False, intermediates_only=True)
        for measured, truth in zip(ours(image), expected, strict=True):
            assert_close(measured, truth.numpy())


def test_deits_imagenet_file_starts_the_backbone_at_a_larger_grid(tmp_path):
    small = {"embed_dim": 16, "depth": 2, "num_heads": 2, "out_indices": [0, 1]}
    source = DistilledVisionTransformer(**small, image_size=384)
    state = fill_state_dict(source.state_dict())
    heads = {f"{name}.{leaf}": torch.zeros(3) for name in ("norm", "head", "head_dist") for leaf in ("weight", "bias")}
    torch.save({"model": {**state, **heads}}, tmp_path / "deit.pth")
    backbone = DistilledVisionTransformer(**small, image_size=480)
    report = load_backbone(backbone, tmp_path / "deit.pth", name="unept-deit")
    assert set(report.unexpected) == set(heads) and not report.missing and not report.misshapen
    grid = state["pos_embed"][:, 2:].reshape(1, 24, 24, 16).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(30, 30), mode="bicubic").flatten(2).transpose(1, 2)
    expected = torch.cat([state["pos_embed"][:, :2], resized], dim=1)
    torch.testing.assert_close(backbone.pos_embed.detach(), expected)
    torch.testing.assert_close(backbone.blocks[1].mlp.fc2.weight.detach(), state["blocks.1.mlp.fc2.weight"])
