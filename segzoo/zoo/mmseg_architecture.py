"""mmsegmentation's model words -> the zoo's: one table of components, and nothing passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from segzoo.errors import UsageError, suggestion
from segzoo.zoo.manifest import load_manifest


class Component(NamedTuple):
    """How one of their types is said here.

    Attributes:
        type: our type.
        words: their word -> ours.
        fixed: their word -> the only value that our component has.
        defaults: their word -> the value it has where the config does not give it.
    """

    type: str
    words: dict[str, str]
    fixed: dict[str, Any] = {}  # noqa: RUF012
    defaults: dict[str, Any] = {}  # noqa: RUF012


_NEIGHBORHOOD_WORDS = {
    word: word
    for word in ("embed_dim", "depths", "num_heads", "kernel_size", "mlp_ratio", "dilations", "drop_path_rate")
}
_NO_DROPOUT = {"qkv_bias": True, "qk_scale": None, "drop_rate": 0.0, "attn_drop_rate": 0.0}
_ALL_STAGES = {"out_indices": [0, 1, 2, 3]}

BACKBONES = {
    "NAT": Component("nat", {**_NEIGHBORHOOD_WORDS, "layer_scale": "layer_scale"}, {**_NO_DROPOUT, **_ALL_STAGES}),
    "DiNAT": Component("nat", {**_NEIGHBORHOOD_WORDS, "layer_scale": "layer_scale"}, {**_NO_DROPOUT, **_ALL_STAGES}),
    "DiNAT_s": Component("dinats", _NEIGHBORHOOD_WORDS, {**_NO_DROPOUT, **_ALL_STAGES, "patch_norm": True}),
    "SwinTransformer": Component(
        "swin",
        {
            "embed_dim": "embed_dim",
            "embed_dims": "embed_dim",
            "depths": "depths",
            "num_heads": "num_heads",
            "window_size": "window_size",
            "mlp_ratio": "mlp_ratio",
            "drop_path_rate": "drop_path_rate",
        },
        {
            **_NO_DROPOUT,
            **_ALL_STAGES,
            "ape": False,
            "use_abs_pos_embed": False,
            "patch_norm": True,
            "patch_size": 4,
            "strides": [4, 2, 2, 2],
        },
    ),
    "ConvNeXt": Component(
        "convnext",
        {
            "dims": "dims",
            "depths": "depths",
            "drop_path_rate": "drop_path_rate",
            "layer_scale_init_value": "layer_scale",
        },
        {**_ALL_STAGES, "gap_before_final_norm": False},
    ),
    "CAE": Component(
        "cae",
        {
            "embed_dim": "embed_dim",
            "depth": "depth",
            "num_heads": "num_heads",
            "mlp_ratio": "mlp_ratio",
            "img_size": "image_size",
            "patch_size": "patch_size",
            "init_values": "layer_scale",
            "drop_path_rate": "drop_path_rate",
            "out_indices": "out_indices",
        },
        {"qkv_bias": True, "use_abs_pos_emb": False, "use_rel_pos_bias": True},
    ),
    "MSCAN": Component(
        "mscan",
        {word: word for word in ("embed_dims", "depths", "mlp_ratios", "drop_path_rate")},
        {"drop_rate": 0.0, "num_stages": 4},
        {"embed_dims": [64, 128, 256, 512], "depths": [3, 4, 6, 3], "mlp_ratios": [4, 4, 4, 4], "drop_path_rate": 0.0},
    ),
    "ResNetV1c": Component(
        "resnet",
        {word: word for word in ("depths", "strides", "dilations", "contract_dilation")},
        {**_ALL_STAGES, "num_stages": 4, "style": "pytorch", "norm_eval": False, "multi_grid": None},
    ),
    "DeiT": Component(
        "deit",
        {
            "embed_dim": "embed_dim",
            "bb_depth": "depth",
            "num_heads": "num_heads",
            "mlp_ratio": "mlp_ratio",
            "img_size": "image_size",
            "patch_size": "patch_size",
        },
    ),
}
SEGMENTORS = {
    "UN_EPT": Component(
        "unept",
        {
            "feat_dim": "channels",
            "L": "levels",
            "k": "points",
            "heads": "heads",
            "hidden_dim": "hidden_dim",
            "depth": "depth",
            "dropout": "dropout",
        },
    ),
}
NECKS = {"FPN": Component("fpn", {"out_channels": "channels"}, {"num_outs": 4})}
_HEAD_FIXED = {"align_corners": False}
HEADS = {
    "UPerHead": Component(
        "upernet",
        {"channels": "channels", "pool_scales": "pool_scales", "dropout_ratio": "dropout"},
        {**_HEAD_FIXED, "in_index": [0, 1, 2, 3]},
    ),
    "FCNHead": Component(
        "fcn",
        {"in_index": "in_index", "channels": "channels", "num_convs": "num_convs", "dropout_ratio": "dropout"},
        {**_HEAD_FIXED, "concat_input": False, "kernel_size": 3},
        {"concat_input": True, "num_convs": 2},
    ),
    "FPNHead": Component(
        "semantic_fpn",
        {"feature_strides": "feature_strides", "channels": "channels", "dropout_ratio": "dropout"},
        {**_HEAD_FIXED, "in_index": [0, 1, 2, 3]},
    ),
    "SegFormerHead": Component(
        "segformer",
        {"embed_dim": "embed_dim", "dropout_ratio": "dropout"},
        {**_HEAD_FIXED, "in_index": [0, 1, 2, 3], "feature_strides": [4, 8, 16, 32]},
    ),
    "LightHamHead": Component(
        "light_ham",
        {"channels": "channels", "ham_channels": "ham_channels", "MD_R": "rank", "dropout_ratio": "dropout"},
        {
            **_HEAD_FIXED,
            "in_index": [1, 2, 3],
            "MD_S": 1,
            "TRAIN_STEPS": 6,
            "EVAL_STEPS": 7,
            "RAND_INIT": True,
            "SPATIAL": True,
        },
        {"ham_channels": 512, "MD_R": 64},
    ),
    "LAWINHead": Component(
        "lawin",
        {
            "embed_dim": "embed_dim",
            "in_dim": "channels",
            **{word: word for word in ("reduction", "depth", "proj_type", "mixing")},
            "dropout_ratio": "dropout",
        },
        {**_HEAD_FIXED, "in_index": [0, 1, 2, 3], "use_scale": True, "concat_fuse": True},
    ),
}
# Where a head's words lie one level deeper.
_NESTED = {"LightHamHead": "ham_kwargs", "LAWINHead": "decoder_params"}

# Words that change nothing of the computation here: training's starting point, names of norms and activations
# that every component has anyway, and numbers that our heads read off the backbone.
_WITHOUT_EFFECT = {
    *("type", "pretrained", "init_cfg", "style", "frozen_stages", "norm_cfg", "act_cfg", "use_checkpoint", "with_cp"),
    *("in_patch_size", "pretrain_img_size", "in_channels", "num_classes", "loss_decode", "sampler", "input_transform"),
    # Read by SegNeXt's head and used by nothing.
    *("MD_D", "INV_T", "ETA"),
}
_CONVNEXT = {
    "tiny": {"dims": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    "small": {"dims": [96, 192, 384, 768], "depths": [3, 3, 27, 3]},
    "base": {"dims": [128, 256, 512, 1024], "depths": [3, 3, 27, 3]},
    "large": {"dims": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]},
    "xlarge": {"dims": [256, 512, 1024, 2048], "depths": [3, 3, 27, 3]},
}
_RESNET = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
# Types that say their whole size: their backbone is that of a row of the zoo.
_SIZED = {
    **{f"mit_b{size}": f"segformer-b{size}" for size in range(6)},
    **{f"recnext_{size}": f"recnext-{size}" for size in ("m3", "m4", "m5", "a3", "a4", "a5")},
}


def architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of a config's `model` in the manifest's words.

    Raises:
        UsageError: a component, a word or a value that the zoo does not have.
    """
    if model.get("type") in SEGMENTORS:
        rest = {word: value for word, value in model.items() if word != "backbone_cfg"}
        return {
            "backbone": _backbone(dict(model["backbone_cfg"])),
            "segmentor": _translate(rest, SEGMENTORS, "segmentor"),
        }
    parts: dict[str, Any] = {"backbone": _backbone(dict(model["backbone"]))}
    if model.get("neck"):
        parts["neck"] = _translate(dict(model["neck"]), NECKS, "neck")
    if not model.get("decode_head"):
        raise UsageError("the config's model has no decode_head")
    parts["head"] = _head(model["decode_head"])
    if model.get("auxiliary_head"):
        if isinstance(model["auxiliary_head"], list):
            raise UsageError("a list of auxiliary heads is not known here; one is")
        parts["auxiliary_head"] = _head(model["auxiliary_head"])
    return parts


def _backbone(words: dict[str, Any]) -> dict[str, Any]:
    words["type"] = str(words["type"]).rpartition(".")[2]  # mmcls.ConvNeXt and mmpretrain.ConvNeXt alike
    if row := _SIZED.get(words["type"]):
        return dict(load_manifest().models[row].architecture.backbone)
    if words["type"] == "ConvNeXt" and isinstance(words.get("arch"), str):
        words.update(_CONVNEXT[words.pop("arch")])
    if words["type"] == "ResNetV1c":
        depth = words.pop("depth")
        if depth not in _RESNET:
            raise UsageError(f"ResNetV1c: depth={depth} is not known here; {', '.join(map(str, _RESNET))} are")
        words["depths"] = _RESNET[depth]
    return _translate(words, BACKBONES, "backbone")


def _head(words: Mapping[str, Any]) -> dict[str, Any]:
    words = dict(words)
    if words["type"] == "SegFormerHead":
        # The authors' code takes the width from decoder_params and ignores `channels`. (mmsegmentation's own
        # SegformerHead, with a convolution for each map, is another head and is not known here.)
        words["embed_dim"] = words.pop("decoder_params")["embed_dim"]
        words.pop("channels", None)
    words |= words.pop(_NESTED.get(words["type"], ""), None) or {}
    if words["type"] == "LAWINHead":
        # The width of the classifier that no forward pass uses.
        words.pop("channels", None)
    return _translate(words, HEADS, "head")


def _translate(words: dict[str, Any], table: Mapping[str, Component], group: str) -> dict[str, Any]:
    kind = words["type"]
    if kind not in table:
        raise UsageError(
            f"the zoo has no {group} for {kind!r}{suggestion(str(kind), table)}; it has {', '.join(table)}"
        )
    component = table[kind]
    given = {**component.defaults, **words}
    result: dict[str, Any] = {"type": component.type}
    for word, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if word in component.words:
            if value is not None:
                result[component.words[word]] = value
        elif word in component.fixed:
            if value != component.fixed[word]:
                raise UsageError(f"{kind}: {word}={value!r} is not known here; only {component.fixed[word]!r} is")
        elif word not in _WITHOUT_EFFECT:
            raise UsageError(f"{kind}: the word {word!r} (={value!r}) is not known here")
    return result
