"""SegFormer, its variants and SegNeXt against their authors' code, for weights that are a function of names."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from fill import fill_state_dict, input_image
from oracle_files import oracle

import segzoo
from segzoo.errors import UsageError
from segzoo.models.segmentor import build_segmentor
from segzoo.profiling.operations import count_operations
from segzoo.zoo.schema import Architecture

ENTRIES = [
    "segformer-b0",
    "segformer-b2-nota",
    "segformer-b2-lawin",
    "segformer-boostformer",
    "segformer-nota-lsra",
    "segformer-nota-lsra-dest",
    "segformer-nota-recursive",
    "segformer-nota-ea",
    "segformer-nota-lsrea-ham",
    "segformer-nota-final",
    "segformer-nota-hybrid",
    "segformer-nota-mscan-ham",
    "segformer-nota-mscan-mlp",
    "segformer-nota-msca-triple",
    "segformer-nota-window",
    "segnext-t",
]
# Quick ones; every attention, network and wiring is in test_segformer_blocks.py as well.
CASES = [
    ("segformer-b0", ""),
    ("segformer-b0", "odd_"),
    ("segformer-b2-nota", "odd_"),
    ("segformer-b2-lawin", ""),
    ("segformer-boostformer", "odd_"),
    ("segformer-nota-lsrea-ham", "odd_"),
    ("segformer-nota-hybrid", "odd_"),
    ("segnext-t", ""),
]
ALL_CASES = [(entry, case) for entry in ENTRIES for case in ("", "odd_")]
NO_ODD = {"segformer-b2-lawin", "segformer-nota-window", "segnext-t"}
SLOW_CASES = [
    (entry, case) for entry, case in ALL_CASES if (entry, case) not in CASES and not (case and entry in NO_ODD)
]


def spec(entry: str) -> dict:
    return json.loads(oracle(f"{entry}/spec.json").read_text())


def filled_model(entry: str) -> torch.nn.Module:
    model = segzoo.create_model(entry)
    model.load_state_dict(fill_state_dict(model.state_dict()))
    return model


@pytest.mark.parametrize("entry", ENTRIES)
def test_state_dict_has_the_authors_keys_and_shapes_in_their_order(entry):
    facts = spec(entry)
    model = segzoo.create_model(entry, device="meta")
    state = model.state_dict()
    floating = {key: list(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}
    assert list(floating.items()) == list(facts["state_dict"].items())
    assert sorted(set(state) - set(floating)) == facts["integer_buffers"]
    assert sum(p.numel() for p in model.parameters()) == facts["params_total"]


def check_logits(entry: str, case: str) -> None:
    facts, recorded = spec(entry), np.load(oracle(f"{entry}/output.npz"))
    given = facts["inputs"][case]
    model = filled_model(entry)
    image = torch.from_numpy(input_image(given["name"], tuple(given["shape"])))
    with torch.inference_mode():
        logits = model(image)
        features = model.backbone(image) if not case else []
    every = int(recorded["subsample"])
    measured, expected = logits[:, :: facts["class_step"], ::every, ::every].numpy(), recorded[f"{case}logits"]
    assert measured.shape == expected.shape
    assert np.abs(measured - expected).max() <= 1e-4 * facts["logits_std"][case]
    for index, feature in enumerate(features):
        assert feature.mean().item() == pytest.approx(float(recorded[f"feat{index}_mean"]), abs=1e-4)
        assert feature.std(correction=0).item() == pytest.approx(float(recorded[f"feat{index}_std"]), rel=1e-4)


@pytest.mark.parametrize(("entry", "case"), CASES)
def test_logits_equal_the_originals(entry, case):
    check_logits(entry, case)


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), SLOW_CASES)
def test_logits_equal_the_originals_for_the_others(entry, case):
    check_logits(entry, case)


# thop sees modules alone: the average of the triple MSCA is a function, the softmax of the windows a module there.
@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if "nota" in entry and entry[15:] not in ("msca-triple", "window")]
)
def test_operations_are_the_teams_to_the_last_digit(entry):
    facts = spec(entry)["operations"]
    assert "thop" in facts["tool"]
    count = count_operations(segzoo.create_model(entry, device="meta"), tuple(facts["shape"]), rule="thop")
    assert count.macs_by_rule == facts["total"]


@pytest.mark.parametrize("size", range(6))
def test_every_size_has_the_published_parameters_and_operations(size):
    published = segzoo.registry.entry(f"segformer-b{size}").published
    model = segzoo.create_model(f"segformer-b{size}", device="meta")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(published.params, rel=0.01)
    count = count_operations(model, (1, 3, *published.operations.shape), rule="multiply-add")
    assert count.macs == pytest.approx(published.operations.value, rel=0.005)


@pytest.mark.parametrize("size", "tsbl")
def test_every_segnext_has_the_published_parameters_and_operations(size):
    published = segzoo.registry.entry(f"segnext-{size}").published
    model = segzoo.create_model(f"segnext-{size}", device="meta")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(published.params, rel=0.01)
    count = count_operations(model, (1, 3, 512, 512), rule="fvcore", resize_logits=True)
    assert count.macs_by_rule == pytest.approx(published.operations.value, rel=0.005)


def small(*, head: dict | None = None, **choices) -> Architecture:
    backbone = {"type": "segformer", "embed_dims": [16, 32, 64, 96], "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
    return Architecture(backbone=backbone | choices, head=head or {"type": "all_mlp", "embed_dim": 24})


HEADS = [
    {"type": "all_mlp", "embed_dim": 24, "fusion": "weighted-sum"},
    {"type": "segformer", "embed_dim": 24},
    {"type": "hamburger", "channels": 40, "ham_channels": 24, "rank": 4},
    {"type": "hamburger", "channels": 40, "rank": 4, "breads": False, "cheese": True, "align": False},
    {"type": "light_ham", "channels": 32, "ham_channels": 64, "rank": 4},
    {"type": "lawin", "embed_dim": 24, "channels": 128, "depth": 2, "proj_type": "conv"},
    {"type": "upernet", "channels": 16},
]


@pytest.mark.parametrize("attention", ["sra", "lsra", "efficient", "lsrea", "pooled", "window", "msca", "msca-nota"])
@pytest.mark.parametrize("skip", ["pre-norm", "recursive", "late-norm"])
@pytest.mark.parametrize("ffn", ["mix", "mix-relu", "dest", "mix-cfn"])
def test_every_attention_goes_with_every_wiring_and_network(attention, skip, ffn):
    architecture = small(attention=attention, skip=skip, ffn=ffn, projection=ffn == "mix", sr_ratios=[7, 4, 2, 1])
    model = build_segmentor(architecture, 5, device="meta")
    assert model(torch.empty(2, 3, 224, 448, device="meta")).shape == (2, 5, 56, 112)


BACKBONES = [
    {"type": "mix_transformer", "embed_dims": [16, 32, 80, 96], "depths": [1, 1, 1, 1]},
    {"type": "segformer", "embed_dims": [24, 32, 80, 96], "depths": [1, 1, 1, 1], "attention": "lsra"},
    {"type": "segformer_hybrid", "embed_dims": [32, 64, 160, 96], "blocks": ["C", "CT", "CT", "CCT"]},
    {"type": "mscan", "embed_dims": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
    {"type": "mscan_nota", "embed_dims": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: "-".join(str(word) for word in head.values()))
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone["type"])
def test_every_encoder_goes_with_every_head(backbone, head):
    model = build_segmentor(Architecture(backbone=backbone, head=head), 4, device="meta")
    assert model(torch.empty(2, 3, 64, 128, device="meta")).shape[:2] == (2, 4)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [(BACKBONES[index % len(BACKBONES)], head) for index, head in enumerate(HEADS[:6])],
    ids=lambda words: words["type"],
)
def test_encoders_and_heads_train(backbone, head):
    torch.manual_seed(0)
    model = build_segmentor(Architecture(backbone=backbone, head=head), 4).train()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    unused = {name.rpartition(".")[0].rpartition(".")[2] for name, p in model.named_parameters() if p.grad is None}
    # What the authors make and never use: the original's classifier, BoostFormer's 1x1, the hybrid's first norm.
    assert unused <= {"conv_seg", "linear_fuse", "0"}


def test_choices_may_differ_from_stage_to_stage():
    architecture = small(
        attention=["lsra", "lsra", "sra", "msca"],
        ffn=["dest", "mix", "mix", "mix-cfn"],
        skip=["recursive", "pre-norm", "pre-norm", "late-norm"],
        stages=["attention", "pooling", "attention", "attention"],
        embed="pool",
    )
    keys = set(build_segmentor(architecture, 5, device="meta").state_dict())
    assert "segformer.encoder.block.0.0.layer_norm_22.weight" in keys
    assert "segformer.encoder.block.1.0.layer_scale_1" in keys
    assert "segformer.encoder.block.2.1.attention.self.key.weight" in keys
    assert "segformer.encoder.block.3.0.attention.self.unit.spatial_gating_unit.conv0.weight" in keys


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"attention": "lsrae"}, "unknown attention 'lsrae'; did you mean 'lsra' or 'lsrea'"),
        ({"ffn": "dset"}, "unknown ffn 'dset'; did you mean 'dest'"),
        ({"skip": "recursiv"}, "unknown skip 'recursiv'; did you mean 'recursive'"),
        ({"embed": "pol"}, "unknown embed 'pol'"),
        ({"stages": "pool"}, "unknown stage 'pool'; did you mean 'pooling'"),
        ({"depths": [1, 1]}, r"depths needs one value for each of the 4 stages, not \[1, 1\]"),
        ({"num_heads": [3, 2, 4, 8]}, "3 heads do not divide the width 16"),
        ({"attention": "efficient", "num_heads": [1, 2, 4, 6]}, "6 heads do not divide its 64 key"),
    ],
)
def test_a_choice_that_does_not_exist_is_one_line(choices, message):
    with pytest.raises(UsageError, match=message):
        build_segmentor(small(**choices), 5, device="meta")


def test_the_lawin_head_says_which_sizes_it_takes():
    model = segzoo.create_model("segformer-b2-lawin", device="meta")
    with pytest.raises(UsageError, match="both sides of the image must be multiples of 64"):
        model(torch.empty(1, 3, 224, 256, device="meta"))


@pytest.mark.parametrize(
    "head", [{"type": "all_mlp", "embed_dim": 24}, {"type": "lawin", "embed_dim": 16, "channels": 128}], ids=str
)
def test_fusing_batch_norms_keeps_the_logits(head):
    architecture = small(ffn=["dest", "mix-cfn", "dest", "mix"], head=head)
    model = build_segmentor(architecture, 5)
    model.load_state_dict(fill_state_dict(model.state_dict()))
    image = torch.from_numpy(input_image("fuse", (1, 3, 64, 128)))
    with torch.inference_mode():
        before = model.eval()(image)
        folded = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
        after = model.fuse()(image)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()) < folded
    assert (after - before).abs().max() <= 1e-4 * before.std()


def test_evaluating_twice_gives_the_same_answer():
    model = build_segmentor(small(attention="lsra", head=HEADS[4]), 5).eval()
    image = torch.from_numpy(input_image("twice", (2, 3, 64, 96)))
    with torch.inference_mode():
        first = model(image)
        torch.manual_seed(1)
        assert torch.equal(model(image), first)
        torch.testing.assert_close(model(image[1:]), first[1:], rtol=1e-4, atol=1e-4)


def test_the_backbone_is_found_under_its_authors_name():
    model = segzoo.create_model("segformer-nota-final", device="meta")
    assert [name for name, _ in model.named_children()] == ["segformer", "decode_head"]
    assert model.backbone is model.segformer.encoder
    assert not any(key.startswith("backbone") for key in model.state_dict())


def test_a_copy_of_a_model_has_a_backbone_of_its_own():
    model = segzoo.create_model("segformer-nota-final", device="meta")
    twin = copy.deepcopy(model)
    assert twin.backbone is twin.segformer.encoder
    assert twin.backbone is not model.backbone
