"""Configs of SegNeXt and of the Lawin head become the zoo's own rows."""

from __future__ import annotations

import pytest

from segzoo.errors import UsageError
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.mmseg_architecture import architecture

HEAD = {
    "type": "LightHamHead",
    "in_channels": [64, 160, 256],
    "in_index": [1, 2, 3],
    "channels": 256,
    "ham_channels": 256,
    "ham_kwargs": {"MD_R": 16},
    "dropout_ratio": 0.1,
    "num_classes": 150,
    "norm_cfg": {"type": "GN", "num_groups": 32, "requires_grad": True},
    "align_corners": False,
}
BACKBONE = {
    "type": "MSCAN",
    "embed_dims": [32, 64, 160, 256],
    "mlp_ratios": [8, 8, 4, 4],
    "drop_rate": 0.0,
    "drop_path_rate": 0.1,
    "depths": [3, 3, 5, 2],
    "norm_cfg": {"type": "SyncBN", "requires_grad": True},
}
LAWIN = {
    "type": "LAWINHead",
    "in_channels": [64, 128, 320, 512],
    "in_index": [0, 1, 2, 3],
    "channels": 128,
    "dropout_ratio": 0.1,
    "align_corners": False,
    "concat_fuse": True,
    "depth": 1,
    "decoder_params": {
        "embed_dim": 512,
        "in_dim": 512,
        "reduction": 2,
        "proj_type": "pool",
        "use_scale": True,
        "mixing": True,
    },
}


def test_segnext_tiny_is_the_zoos_row_but_for_the_seed_of_its_bases():
    row = load_manifest().models["segnext-t"].architecture
    imported = architecture({"type": "EncoderDecoder", "backbone": BACKBONE, "decode_head": HEAD})
    assert imported["backbone"] == row.backbone
    ours = {key: value for key, value in (row.head or {}).items() if key != "bases_seed"}
    assert imported["head"] == {**ours, "ham_channels": 256, "dropout": 0.1}


def test_the_heads_own_width_is_512_where_the_config_is_silent():
    head = {key: value for key, value in HEAD.items() if key not in ("ham_kwargs", "ham_channels")}
    imported = architecture({"type": "EncoderDecoder", "backbone": BACKBONE, "decode_head": head})
    assert (imported["head"]["ham_channels"], imported["head"]["rank"]) == (512, 64)


def test_the_lawin_config_is_the_zoos_row():
    row = load_manifest().models["segformer-b2-lawin"].architecture
    imported = architecture({"type": "EncoderDecoder", "backbone": {"type": "mit_b2"}, "decode_head": LAWIN})
    assert imported["head"] == {**(row.head or {}), "dropout": 0.1}


def test_a_factorisation_of_another_kind_is_refused():
    head = {**HEAD, "ham_kwargs": {"MD_R": 16, "EVAL_STEPS": 9}}
    with pytest.raises(UsageError, match="LightHamHead: EVAL_STEPS=9 is not known here"):
        architecture({"type": "EncoderDecoder", "backbone": BACKBONE, "decode_head": head})
