"""Backbones from pretraining files: every form in which CAE's come, against what the original loads from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fill import fill_array
from oracle_files import oracle

import segzoo
from segzoo.errors import IntegrityError, UsageError
from segzoo.models.backbones.cae import CAE
from segzoo.weights.backbone import load_backbone
from segzoo.weights.positions import resize_position_embedding, resize_relative_table, spline_weights

TABLE = "blocks.0.attn.relative_position_bias_table"


def small_cae(side: int = 32, depth: int = 4) -> CAE:
    return CAE(embed_dim=48, depth=depth, num_heads=12, out_indices=[0, 1, 2, 3], image_size=16 * side)


def encoder(*, tables: bool = False) -> dict[str, torch.Tensor]:
    """What pretraining at 224 pixels leaves of the encoder: no pyramid, no relative positions, a final norm."""
    state = {
        key: torch.randn_like(value) for key, value in small_cae(14).state_dict().items() if value.is_floating_point()
    }
    state = {key: value for key, value in state.items() if not key.startswith("fpn") and (tables or "table" not in key)}
    return state | {"norm.weight": torch.ones(48), "norm.bias": torch.zeros(48)}


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def full(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The whole pretraining model; its teacher has the encoder's form and other values."""
    teacher = {key: value + 1 for key, value in state.items()}
    neck = {"pretext_neck.norm.weight": torch.ones(48), "encoder_to_decoder.weight": torch.ones(48, 48)}
    return {"mask_token": torch.zeros(1, 1, 48), **prefixed(state, "encoder."), **prefixed(teacher, "teacher."), **neck}


FORMS = {
    "whole model under model": lambda state: {"model": full(state)},
    "whole model under module": lambda state: {"module": full(state)},
    "whole model under state_dict": lambda state: {"state_dict": full(state)},
    "saved by DistributedDataParallel": lambda state: {"model": prefixed(full(state), "module.")},
    "with decoder keys": lambda state: {"model": {"decoder.norm.weight": torch.ones(48), **full(state)}},
    "encoder alone": lambda state: prefixed(state, "encoder."),
    "bare keys": lambda state: state,
    "backbone of a segmentor": lambda state: {"state_dict": prefixed(state, "backbone.")},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_encoder_is_found_in_every_form_of_the_file(form, tmp_path):
    torch.manual_seed(0)
    state = encoder()
    torch.save(FORMS[form](state), tmp_path / "pretrained.pth")
    backbone = small_cae()
    report = load_backbone(backbone, tmp_path / "pretrained.pth", name="cae")
    loaded = backbone.state_dict()
    for key, value in state.items():
        if key == "pos_embed":
            assert torch.equal(loaded[key], resize_position_embedding(value, 1025))
        elif not key.startswith("norm."):
            assert torch.equal(loaded[key], value)
    assert report.loaded == len(state) - 2
    assert report.unexpected == ("norm.weight", "norm.bias")
    assert {key.split(".")[0] for key in report.missing} == {"fpn1", "fpn2", "blocks"}
    # The tables that are not in the file stay 0, as in the original.
    assert not loaded[TABLE].any()


@pytest.mark.parametrize("tables", [False, True])
def test_what_is_loaded_and_what_is_not_are_the_originals(tables):
    facts = json.loads(oracle("cae-base/pretrain_load.json").read_text())
    bare, with_tables = (
        "encoder only, bare keys, no wrapper",
        "bare keys with 14x14 rel-pos tables (ImageNet fine-tuned CAE)",
    )
    case = facts["cases"][with_tables if tables else bare]
    # The original was run with the first two blocks alone.
    own = {key for key in small_cae().state_dict() if not key.startswith(("blocks.2.", "blocks.3."))}
    assert set(case["not_loaded"]) == own - set(encoder(tables=tables))
    assert case["loaded"] == len(own & set(encoder(tables=tables)))


def test_position_embedding_is_resized_as_by_the_original():
    recorded = np.load(oracle("cae-base/pretrain_load.npz"))
    table = fill_array("cae-pretrain.pos_embed", (1, 197, 768)) * np.float32((197 * 768) ** 0.5)
    resized = resize_position_embedding(torch.from_numpy(table), 1025)
    assert np.abs(resized[:, ::16, ::16].numpy() - recorded["pos_embed_32_sub"]).max() <= 1e-5
    assert np.array_equal(resized[0, 0, ::16].numpy(), recorded["pos_embed_cls"])


def test_relative_positions_are_resized_as_by_the_original():
    recorded = np.load(oracle("cae-base/pretrain_load.npz"))["rel_pos_table_63_heads_0_11"]
    table = torch.from_numpy(fill_array(f"cae-pretrain.{TABLE}", (732, 12)))
    resized = resize_relative_table(table, 3972)
    assert np.abs(resized[:, [0, 11]].numpy() - recorded).max() <= 1e-6
    assert torch.equal(resized[-3:], table[-3:])


def test_tables_of_another_resolution_and_a_shared_one_reach_every_block(tmp_path):
    torch.manual_seed(0)
    state = encoder(tables=True)
    torch.save(state, tmp_path / "own.pth")
    shared = {key: value for key, value in state.items() if not key.endswith("table")}
    torch.save(shared | {"rel_pos_bias.relative_position_bias_table": state[TABLE]}, tmp_path / "shared.pth")
    expected = resize_relative_table(state[TABLE], 3972)
    for file in ("own.pth", "shared.pth"):
        backbone = small_cae()
        load_backbone(backbone, tmp_path / file, name="cae")
        assert torch.equal(backbone.state_dict()[TABLE], expected)
    assert torch.equal(backbone.blocks[3].attn.relative_position_bias_table, expected)


def test_the_spline_goes_through_its_points_and_reproduces_cubics():
    points = np.array([-4.0, -2.5, -1.0, 0.0, 1.5, 2.0, 5.0])
    samples = np.linspace(-4, 5, 31)
    cubic = np.polynomial.Polynomial([0.3, -1.2, 0.5, 0.07])
    assert np.allclose(spline_weights(points, points), np.eye(7), atol=1e-12)
    assert np.allclose(spline_weights(points, samples) @ cubic(points), cubic(samples), atol=1e-10)
    # Beyond the points: the value at the end.
    assert np.allclose(spline_weights(points, np.array([-9.0, 9.0])) @ points, [-4.0, 5.0])


def test_a_file_of_another_width_or_depth_is_refused(tmp_path):
    state = {key: value for key, value in encoder().items() if not key.startswith("blocks.3.")}
    torch.save(state, tmp_path / "shallow.pth")
    with pytest.raises(IntegrityError, match=r"of another depth: blocks\.3 on one side only"):
        load_backbone(small_cae(), tmp_path / "shallow.pth", name="cae")
    torch.save(encoder() | {"cls_token": torch.zeros(1, 1, 64)}, tmp_path / "wide.pth")
    with pytest.raises(IntegrityError, match="1 misshapen"):
        load_backbone(small_cae(), tmp_path / "wide.pth", name="cae")
    torch.save({"conv1.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(IntegrityError, match="not for the backbone of cae"):
        load_backbone(small_cae(), tmp_path / "other.pth", name="cae")


def test_a_classifier_starts_a_segmentors_backbone_and_not_its_heads(tmp_path):
    torch.manual_seed(0)
    model = segzoo.create_model("recnext-m3")
    state = {key: torch.randn(value.shape) for key, value in model.backbone.state_dict().items()}
    classifier = {"head.head.norm.weight": torch.ones(512), "head.head_dist.linear.weight": torch.ones(1000, 512)}
    torch.save({"model": state | classifier}, tmp_path / "imagenet.pth")
    started = segzoo.create_model("recnext-m3", backbone_checkpoint=tmp_path / "imagenet.pth")
    assert started.load_report.unexpected == tuple(classifier)
    assert not started.load_report.missing
    key = "stages.2.blocks.12.token_mixer.convs.2.weight"
    assert torch.equal(started.backbone.state_dict()[key], state[key])
    with pytest.raises(UsageError, match="leave out pretrained and checkpoint"):
        segzoo.create_model("recnext-m3", pretrained=True, backbone_checkpoint=tmp_path / "imagenet.pth")
