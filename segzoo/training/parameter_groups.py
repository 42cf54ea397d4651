"""Which learning rate and weight decay each parameter gets: a recipe's rules as an optimiser's groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from segzoo.zoo.schema import LayerDecay, Recipe

_EMBEDDINGS = ("backbone.cls_token", "backbone.mask_token", "backbone.pos_embed", "backbone.patch_embed.")
_BLOCK = re.compile(r"backbone\.(?:blocks|layers)\.(\d+)\.")
_STAGE = re.compile(r"backbone\.stages\.(\d+)\.")


def parameter_groups(named_parameters: Iterable[tuple[str, nn.Parameter]], recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for torch.optim, in the order in which their first parameters come; frozen parameters are in none.

    Each group has "params", "lr" and "weight_decay" as the optimiser takes them and, for schedules and
    for reading, "lr_scale" (its rate over the recipe's), "name" and "names" (those of its parameters).

    Args:
        named_parameters: `model.named_parameters()`, with the authors' names.
        recipe: its `layer_decay`, where there is one, and otherwise its `paramwise` decide.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        if recipe.layer_decay is not None:
            group, lr_scale, decay_scale = _by_layer(name, parameter, recipe.layer_decay)
        else:
            group, lr_scale, decay_scale = _by_substring(name, recipe.paramwise)
        if group not in groups:
            groups[group] = {
                "name": group,
                "params": [],
                "names": [],
                "lr": recipe.lr * lr_scale,
                "lr_scale": lr_scale,
                "weight_decay": recipe.weight_decay * decay_scale,
            }
        groups[group]["params"].append(parameter)
        groups[group]["names"].append(name)
    return list(groups.values())


def layer_of(name: str, layer_decay: LayerDecay) -> int:
    """The layer of a parameter, from 0 for what comes before the blocks to `layers + 1` for what comes after.

    Kind "layer" counts the blocks of a plain transformer as CAE and BEiT do, kind "stage" the stages of
    ConvNeXt, all of whose downsampling layers are layer 0 (mmsegmentation's "stage_wise").
    """
    staged = layer_decay.kind == "stage"
    if name.startswith("backbone.downsample_layers." if staged else _EMBEDDINGS):
        return 0
    match = (_STAGE if staged else _BLOCK).match(name)
    return int(match[1]) + 1 if match else layer_decay.layers + 1


def _by_layer(name: str, parameter: nn.Parameter, layer_decay: LayerDecay) -> tuple[str, float, float]:
    """(group, factor of the learning rate, factor of the weight decay).

    The originals mean to spare the class token and the position embedding from decay, but look for them
    without the word "backbone."; so the class token IS decayed, as are tables of relative positions.
    """
    layer = layer_of(name, layer_decay)
    decayed = parameter.ndim != 1 and not name.endswith(".bias")
    scale = layer_decay.rate ** (layer_decay.layers + 1 - layer)
    return f"layer_{layer}_{'decay' if decayed else 'no_decay'}", scale, float(decayed)


def _by_substring(name: str, paramwise: dict[str, dict[str, float]]) -> tuple[str, float, float]:
    """(group, factor of the learning rate, factor of the weight decay) by mmcv's rule: the longest key decides."""
    for key in sorted(sorted(paramwise), key=len, reverse=True):
        if key in name:
            return key, paramwise[key].get("lr_mult", 1.0), paramwise[key].get("decay_mult", 1.0)
    return "default", 1.0, 1.0
