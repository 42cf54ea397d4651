"""Names such as timm/convnext_tiny+upernet: any timm backbone under any head, with no manifest entry."""

from __future__ import annotations

from typing import Any

import msgspec

from segzoo.errors import UsageError, suggestion
from segzoo.zoo.schema import Architecture, Model

PREFIX = "timm/"
_HEADS: dict[str, dict[str, dict[str, Any]]] = {
    "upernet": {"head": {"type": "upernet", "channels": 512}},
    "fpn": {"neck": {"type": "fpn", "channels": 256}, "head": {"type": "semantic_fpn", "channels": 128}},
    "segformer": {"head": {"type": "segformer"}},
    "fcn": {"head": {"type": "fcn", "in_index": -1, "channels": 512, "num_convs": 2}},
}


def is_timm_name(name: str) -> bool:
    """Whether the name speaks of a timm backbone."""
    return name.startswith(PREFIX)


def timm_entry(name: str) -> Model:
    """The entry for timm/BACKBONE+HEAD: ADE20K's classes and protocol, no trained weights.

    Raises:
        UsageError: no head given, or an unknown one.
    """
    backbone, plus, head = name.removeprefix(PREFIX).partition("+")
    if not plus or head not in _HEADS:
        near = suggestion(head, _HEADS)
        raise UsageError(f"{name!r}: write timm/BACKBONE+HEAD with a head of {', '.join(_HEADS)}{near}")
    return Model(
        architecture=Architecture(backbone={"type": "timm", "name": backbone}, **_HEADS[head]),
        dataset="ade20k",
        num_classes=150,
        protocol="ade20k-whole",
        recipe="upernet-nat-ade20k",
        licence="see timm",
        notes=["No trained segmentation weights: pretrained=True loads timm's ImageNet weights into the backbone."],
    )


def with_timm_weights(entry: Model) -> Model:
    """The same entry with timm's ImageNet weights in its backbone; the head starts fresh."""
    backbone = {**entry.architecture.backbone, "pretrained": True}
    return msgspec.structs.replace(entry, architecture=msgspec.structs.replace(entry.architecture, backbone=backbone))
