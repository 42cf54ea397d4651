"""Backbones under the names of their authors, of timm and of mmsegmentation, where ours are another of these.

Each of them is for bare classifiers and, below "backbone.", for whole segmentors.
"""

from __future__ import annotations

from segzoo.weights.layout import Layout, Rename, Reorder

PREFIXES = ("", "backbone.")


def _renames(*pairs: tuple[str, str]) -> tuple[Rename, ...]:
    return tuple(Rename(prefix + theirs, prefix + ours) for prefix in PREFIXES for theirs, ours in pairs)


def _layouts(name: str, detect: tuple[str, ...], renames: tuple[Rename, ...], order: tuple[Reorder, ...] = ()) -> list:
    """One layout for each place at which the backbone can be; the rules are those of both."""
    return [
        Layout(
            name=name,
            whole=False,
            detect=tuple(prefix + template for template in detect),
            renames=renames,
            reorders=order,
        )
        for prefix in PREFIXES
    ]


# A patch merging's four tokens: the authors put them side by side, column by column, each with all its channels;
# mmsegmentation puts each channel's four values side by side, row by row.
_MERGING = tuple(
    Reorder(f"{prefix}stages.{{stage}}.downsample.{leaf}", sizes=(2, 2, -1), order=(2, 1, 0))
    for prefix in PREFIXES
    for leaf in ("norm.weight", "norm.bias", "reduction.weight")
)
_SWIN_BLOCK = (
    ("patch_embed.proj.{leaf}", "patch_embed.projection.{leaf}"),
    ("layers.{stage}.blocks.{block}.attn.{rest*}", "stages.{stage}.blocks.{block}.attn.w_msa.{rest*}"),
    ("layers.{stage}.blocks.{block}.mlp.fc1.{leaf}", "stages.{stage}.blocks.{block}.ffn.layers.0.0.{leaf}"),
    ("layers.{stage}.blocks.{block}.mlp.fc2.{leaf}", "stages.{stage}.blocks.{block}.ffn.layers.1.{leaf}"),
    ("layers.{stage}.blocks.{rest*}", "stages.{stage}.blocks.{rest*}"),
)
# DiNAT-s has the names of Swin but for this one.
_SWIN_ATTENTION = "layers.{stage}.blocks.{block}.attn.relative_position_bias_table"

# microsoft/Swin-Transformer, models/swin_transformer.py: a stage ends with its merging.
SWIN = _layouts(
    "swin-original",
    (_SWIN_ATTENTION, "layers.0.downsample.reduction.{leaf}"),
    _renames(*_SWIN_BLOCK, ("layers.{stage}.downsample.{rest*}", "stages.{stage}.downsample.{rest*}")),
    _MERGING,
)

# timm, models/swin_transformer.py: a stage begins with the merging.
SWIN_TIMM = _layouts(
    "swin-timm",
    (_SWIN_ATTENTION, "layers.3.downsample.reduction.{leaf}"),
    _renames(
        *_SWIN_BLOCK,
        *((f"layers.{stage}.downsample.{{rest*}}", f"stages.{stage - 1}.downsample.{{rest*}}") for stage in (1, 2, 3)),
    ),
    _MERGING,
)

# facebookresearch/ConvNeXt, models/convnext.py.
CONVNEXT = _layouts(
    "convnext-original",
    ("stages.{stage}.{block}.pwconv1.{leaf}", "downsample_layers.0.0.{leaf}"),
    _renames(
        ("stages.{stage}.{block}.dwconv.{leaf}", "stages.{stage}.{block}.depthwise_conv.{leaf}"),
        ("stages.{stage}.{block}.pwconv1.{leaf}", "stages.{stage}.{block}.pointwise_conv1.{leaf}"),
        ("stages.{stage}.{block}.pwconv2.{leaf}", "stages.{stage}.{block}.pointwise_conv2.{leaf}"),
    ),
)

# timm, models/convnext.py.
CONVNEXT_TIMM = _layouts(
    "convnext-timm",
    ("stages.{stage}.blocks.{block}.conv_dw.{leaf}", "stem.0.{leaf}"),
    _renames(
        ("stem.{rest*}", "downsample_layers.0.{rest*}"),
        ("stages.{stage}.downsample.{rest*}", "downsample_layers.{stage}.{rest*}"),
        ("stages.{stage}.blocks.{block}.conv_dw.{leaf}", "stages.{stage}.{block}.depthwise_conv.{leaf}"),
        ("stages.{stage}.blocks.{block}.mlp.fc1.{leaf}", "stages.{stage}.{block}.pointwise_conv1.{leaf}"),
        ("stages.{stage}.blocks.{block}.mlp.fc2.{leaf}", "stages.{stage}.{block}.pointwise_conv2.{leaf}"),
        ("stages.{stage}.blocks.{block}.{rest*}", "stages.{stage}.{block}.{rest*}"),
    ),
)

# mmsegmentation 1.x, mmseg/models/backbones/mscan.py, which has the authors' names but for one.
MSCAN = _layouts(
    "mscan-mmsegmentation",
    ("block{stage}.{block}.attn.spatial_gating_unit.conv0.{leaf}", "block{stage}.{block}.mlp.dwconv.{leaf}"),
    _renames(("block{stage}.{block}.mlp.dwconv.{leaf}", "block{stage}.{block}.mlp.dwconv.dwconv.{leaf}")),
)

BACKBONES: tuple[Layout, ...] = (*SWIN, *SWIN_TIMM, *CONVNEXT, *CONVNEXT_TIMM, *MSCAN)
