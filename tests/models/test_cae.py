"""CAE + UPerNet against what the authors' code answers for weights that are a function of names."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from fill import fill_state_dict, input_image
from oracle_files import oracle
from tap_matrix import matrix_of

import segzoo
from segzoo.errors import UsageError
from segzoo.inference import network
from segzoo.inference.windows import window_grid
from segzoo.models.backbones.cae import CAE, relative_position_index, sine_cosine_positions
from segzoo.profiling.operations import count_operations

ENTRY = "cae-base-1600e"


@pytest.fixture(scope="module")
def facts():
    return json.loads(oracle("cae-base/spec.json").read_text())


@pytest.fixture(scope="module")
def recorded():
    return np.load(oracle("cae-base/output.npz"))


@pytest.fixture(scope="module")
def filled_model():
    model = segzoo.create_model(ENTRY)
    model.load_state_dict(fill_state_dict(model.state_dict()))
    return model


def assert_close(measured: torch.Tensor, expected: np.ndarray) -> None:
    assert tuple(measured.shape) == expected.shape
    assert np.abs(measured.numpy() - expected).max() <= 1e-4 * min(1.0, expected.std())


def test_state_dict_has_the_authors_keys_and_shapes_in_their_order(facts):
    state = segzoo.create_model(ENTRY, device="meta").state_dict()
    floating = {key: list(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}
    assert list(floating.items()) == list(facts["state_dict"].items())
    assert set(state) - set(floating) == set(facts["integer_buffers"])


def test_parameter_counts_by_part_and_the_frozen_position_embedding(facts):
    model = segzoo.create_model(ENTRY, device="meta")
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == facts["params_by_part"]
    assert sum(counts.values()) == facts["params_total"]
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == facts["frozen"]


def test_operations_equal_the_originals_counted_with_fvcore(facts):
    model = segzoo.create_model(ENTRY, device="meta")
    assert count_operations(model, (1, 3, 512, 512), resize_logits=True).macs_by_rule == facts["macs_fvcore_512"]


def test_position_index_is_the_one_every_checkpoint_holds():
    index = relative_position_index(32)
    assert zlib.crc32(index.tobytes()) == 2473485324
    assert [index[0, 7], index[7, 0], index[0, 0]] == [3969, 3970, 3971]


def test_position_embedding_starts_as_the_sine_cosine_table_of_the_pretraining():
    expected = np.load(oracle("cae-base/pretrain_load.npz"))["sincos14_sub"]
    assert np.abs(sine_cosine_positions(14, 768)[:, ::7, ::48] - expected).max() <= 1e-6


def test_tokens_after_the_first_blocks_equal_the_originals(facts, recorded):
    # Filled weights are a function of names, so that the first blocks answer as in the whole model.
    backbone = CAE(embed_dim=768, depth=4, num_heads=12, out_indices=[0, 1, 2, 3]).eval()
    state = fill_state_dict({f"backbone.{key}": value for key, value in backbone.state_dict().items()})
    backbone.load_state_dict({key.removeprefix("backbone."): value for key, value in state.items()})
    tokens = {}
    backbone.blocks[0].register_forward_pre_hook(
        lambda block, inputs: tokens.update(embed_sub=inputs[0][:, ::64, ::16])
    )
    for index in range(2):
        name = f"block{index}_sub"
        backbone.blocks[index].register_forward_hook(
            lambda block, inputs, output, name=name: tokens.update({name: output[:, ::128, ::96]})
        )
    with torch.inference_mode():
        backbone(torch.from_numpy(input_image(facts["input"]["name"], tuple(facts["input"]["shape"]))))
    for name, measured in tokens.items():
        assert_close(measured, recorded[name])
    assert len(tokens) == 3


@pytest.mark.slow
def test_logits_and_features_equal_the_originals(filled_model, facts, recorded):
    image = torch.from_numpy(input_image(facts["input"]["name"], tuple(facts["input"]["shape"])))
    step = facts["class_step"]
    with torch.inference_mode():
        outputs = filled_model.forward_outputs(image)
        features = filled_model.backbone(image)
    assert_close(outputs["logits"][:, ::step, ::8, ::8], recorded["logits"])
    assert_close(outputs["aux_logits"][:, ::step, ::4, ::4], recorded["aux_logits"])
    for index, feature in enumerate(features):
        channels, pixels = recorded[f"feat{index}_step"]
        assert tuple(feature.shape) == tuple(recorded[f"feat{index}_shape"])
        assert_close(feature[:, ::channels, ::pixels, ::pixels], recorded[f"feat{index}_sub"])


@pytest.mark.slow
def test_logits_equal_the_originals_where_positions_matter(filled_model, facts, recorded):
    # Filled position embeddings are small; at unit size a wrong one cannot hide.
    image = torch.from_numpy(input_image(facts["input"]["name"], tuple(facts["input"]["shape"])))
    positions, factor = filled_model.backbone.pos_embed, float(np.sqrt(1025 * 768))
    with torch.inference_mode():
        positions.mul_(factor)
        logits = filled_model(image)
        positions.div_(factor)
    assert_close(logits[:, :: facts["class_step"], ::16, ::16], recorded["logits_strong_pos"])


@pytest.mark.slow
def test_logits_of_sliding_windows_equal_the_originals(filled_model, facts, recorded, monkeypatch):
    given = facts["slide_input"]
    pixels = torch.from_numpy(input_image(given["name"], tuple(given["shape"])))[0]
    monkeypatch.setattr(network, "network_input", lambda image, protocol, ratio: pixels)
    picture = np.zeros((*pixels.shape[1:], 3), dtype=np.uint8)
    with torch.inference_mode():
        (view,) = network.Network(filled_model).views(picture, segzoo.get_protocol(ENTRY))
        rows, columns = (matrix_of(side)[::32] for side in (view.rows, view.columns))
        logits = torch.einsum("hr,krc,wc->khw", rows, view.values, columns)[None]
    assert_close(logits[:, :: facts["class_step"]], recorded["slide_logits"])


def test_windows_are_the_originals(facts):
    protocol = segzoo.get_protocol(ENTRY)
    for words, expected in facts["slide_windows"].items():
        height, width = map(int, words.split("x"))
        rows, columns = window_grid((height, width), protocol)
        found = [[row.start, row.stop, column.start, column.stop] for row in rows for column in columns]
        assert found == expected


def test_rows_that_fill_no_patch_are_dropped_and_other_grids_refused():
    model = segzoo.create_model(ENTRY, num_classes=4, device="meta")
    assert model(torch.empty(1, 3, 520, 527, device="meta")).shape == (1, 4, 128, 128)
    # 16 x 64 patches have the right number and would take wrong positions.
    for height, width in ((256, 1024), (512, 640)):
        with pytest.raises(UsageError, match=f"512x512 pixels, not {height}x{width}"):
            model(torch.empty(1, 3, height, width, device="meta"))


def test_the_large_model_taps_later_blocks_and_starts_with_a_small_layer_scale():
    model = segzoo.create_model("cae-large-1600e", device="meta")
    assert model.backbone.out_indices == [7, 11, 15, 23]
    assert model.state_dict()["backbone.blocks.23.attn.relative_position_bias_table"].shape == (3972, 16)
    small = CAE(embed_dim=8, depth=4, num_heads=2, out_indices=[0, 1, 2, 3], image_size=32, layer_scale=1e-5)
    assert small.blocks[3].gamma_2.tolist() == pytest.approx([1e-5] * 8)


def test_every_row_is_tested_on_windows_of_512_with_a_step_of_341():
    for name in segzoo.list_models("cae-*"):
        protocol = segzoo.get_protocol(name)
        assert (protocol.mode, protocol.crop, protocol.stride) == ("slide", (512, 512), (341, 341))
        assert (protocol.scale, protocol.pad_windows) == ((2048, 512), False)


def test_every_parameter_but_the_position_embedding_gets_a_gradient():
    backbone = CAE(embed_dim=16, depth=4, num_heads=2, out_indices=[0, 1, 2, 3], image_size=64)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sum(feature.square().sum() for feature in backbone(image)).backward()
    without = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == ["pos_embed"]
