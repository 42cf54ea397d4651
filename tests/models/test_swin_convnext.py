"""Swin and ConvNeXt against timm's independent implementations, through renamed weights."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
import torch
from fill import fill_array, input_image
from oracle_files import oracle

import segzoo
from segzoo.models.backbones import convnext, swin

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    timm = pytest.importorskip("timm")


def randomize(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def assert_maps_close(mine: list, theirs: list, tolerance: float = 2e-5) -> None:
    for left, right in zip(mine, theirs, strict=True):
        right = right if right.shape == left.shape else right.permute(0, 3, 1, 2)
        assert (left - right).abs().max() <= tolerance * right.abs().max()


def swin_key(key: str) -> str:
    key = re.sub(r"^stages\.(\d)\.downsample", lambda found: f"layers_{int(found[1]) + 1}.downsample", key)
    key = re.sub(r"^stages\.(\d)\.", r"layers_\1.", key)
    for mine, theirs in (
        ("projection", "proj"),
        ("w_msa.", ""),
        ("ffn.layers.0.0", "mlp.fc1"),
        ("ffn.layers.1", "mlp.fc2"),
    ):
        key = key.replace(mine, theirs)
    return key


def timm_order(tensor: torch.Tensor) -> torch.Tensor:
    """The last axis of a patch merging's weights from [C, row, column] to timm's [column, row, C]."""
    return tensor.unflatten(-1, (-1, 2, 2)).movedim((-3, -2, -1), (-1, -2, -3)).flatten(-3)


def test_swin_equals_timm_with_shifted_windows():
    mine = swin.build(embed_dim=24, depths=[2, 2, 2, 2], num_heads=[2, 2, 4, 4], window_size=7).eval()
    randomize(mine)
    other = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, img_size=(448, 448), embed_dim=24, depths=(2, 2, 2, 2),
        num_heads=(2, 2, 4, 4),
    ).eval()  # fmt: skip
    state = {}
    for key, tensor in mine.state_dict().items():
        if "downsample" in key:
            tensor = timm_order(tensor)
        if not re.match(r"norm\d|.*relative_position_index", key):
            state[swin_key(key)] = tensor
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("attn_mask" in key or "relative_position_index" in key for key in missing), missing
    for index in range(4):  # timm gives the maps before any norm
        setattr(mine, f"norm{index}", torch.nn.Identity())
    image = torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert_maps_close(mine(image), other(image))


def test_convnext_equals_timm():
    mine = convnext.build(dims=[16, 32, 64, 128], depths=[2, 2, 3, 2]).eval()
    randomize(mine)
    other = timm.create_model(
        "convnext_tiny", features_only=True, depths=(2, 2, 3, 2), dims=(16, 32, 64, 128), ls_init_value=1.0
    ).eval()
    state = {}
    for key, tensor in mine.state_dict().items():
        key = re.sub(r"^downsample_layers\.0\.", "stem_", key)
        key = re.sub(r"^downsample_layers\.(\d)\.", r"stages_\1.downsample.", key)
        key = re.sub(r"^stages\.(\d)\.(\d)\.", r"stages_\1.blocks.\2.", key)
        key = key.replace("depthwise_conv", "conv_dw")
        key = key.replace("pointwise_conv", "mlp.fc")
        if not re.match(r"norm\d", key):
            state[key] = tensor
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    for index in range(4):
        setattr(mine, f"norm{index}", torch.nn.Identity())
    image = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert_maps_close(mine(image), other(image))


def test_swin_pads_any_size_and_keeps_mmsegmentations_keys():
    model = segzoo.create_model("swin-tiny", num_classes=3)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 90, 131)).shape == (1, 3, 23, 33)
    keys = set(model.state_dict())
    assert {
        "backbone.patch_embed.projection.weight",
        "backbone.stages.0.blocks.1.attn.w_msa.relative_position_bias_table",
        "backbone.stages.2.blocks.5.ffn.layers.0.0.weight",
        "backbone.stages.2.blocks.5.ffn.layers.1.bias",
        "backbone.stages.0.downsample.reduction.weight",
        "backbone.norm3.bias",
    } <= keys


def test_relative_position_index_by_hand():
    # A 2x2 window has 9 relative positions; token 0 sees token 3 at one down and one right: row difference -1, -1.
    index = swin._relative_position_index(2)
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@pytest.mark.parametrize("shift", [0, 3])
def test_a_block_equals_the_recorded_one(shift):
    facts = json.loads(oracle(f"blocks/swin-block-shift{shift}/spec.json").read_text())
    recorded = np.load(oracle(f"blocks/swin-block-shift{shift}/output.npz"))["output"]
    block = swin.SwinBlock(32, 2, window_size=7, shift=shift, mlp_ratio=4.0, drop_path=0.0).eval()
    names = (("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1"), ("attn.", "attn.w_msa."))
    state = {}
    for key, shape in facts["state_dict"].items():
        ours = key
        for theirs, mine in names:
            ours = ours.replace(theirs, mine)
        state[ours] = torch.from_numpy(fill_array(key, tuple(shape)))
    missing, unexpected = block.load_state_dict(state, strict=False)
    assert not unexpected and missing == ["attn.w_msa.relative_position_index"]
    given = facts["input"]
    with torch.inference_mode():
        measured = block(torch.from_numpy(input_image(given["name"], tuple(given["shape"]))))
    assert np.abs(measured.numpy() - recorded).max() <= 1e-4 * recorded.std()
