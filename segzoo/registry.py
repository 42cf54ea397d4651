"""Names -> entries -> models. Listing needs no torch; building does."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.errors import IntegrityError, UsageError, suggestion
from segzoo.protocol import Protocol
from segzoo.zoo.foreign_names import (
    foreign_entry,
    foreign_protocol,
    is_foreign_name,
    needs_checkpoint,
    own_class_names,
    with_foreign_weights,
)
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.schema import Dataset, Model
from segzoo.zoo.timm_names import is_timm_name, timm_entry, with_timm_weights

if TYPE_CHECKING:
    from torch import nn


def names(pattern: str = "*") -> list[str]:
    """The names of the zoo that match a glob such as "nat-*", in the manifest's order."""
    return [name for name in load_manifest().models if fnmatch.fnmatchcase(name, pattern)]


list_models = names


def entry(name: str) -> Model:
    """The manifest's entry of a model; a name such as timm/resnet50+fpn or hf:FOLDER needs none.

    Raises:
        UsageError: no such model; the message suggests near names.
    """
    if is_timm_name(name):
        return timm_entry(name)
    if is_foreign_name(name):
        return foreign_entry(name)
    models = load_manifest().models
    if name not in models:
        raise UsageError(f"unknown model {name!r}{suggestion(name, models)} (see `segzoo list`)")
    return models[name]


def select(patterns: list[str]) -> list[str]:
    """The names for words that may be globs, without repeats, in the order given.

    Raises:
        UsageError: a word that matches nothing.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = names(pattern)
        if not matches:
            entry(pattern)
        chosen.update(dict.fromkeys(matches or [pattern]))
    return list(chosen)


def dataset_entry(name: str) -> Dataset:
    """The manifest's entry of a data set.

    Raises:
        UsageError: no such data set.
    """
    datasets = load_manifest().datasets
    if name not in datasets:
        raise UsageError(f"unknown data set {name!r}{suggestion(name, datasets)}")
    return datasets[name]


def class_names(name: str) -> list[str]:
    """What the classes of a model are called: as its data set calls them, else as it does itself.

    Raises:
        UsageError: unknown name.
    """
    dataset = entry(name).dataset
    return list(dataset_entry(dataset).classes) if dataset else own_class_names(name) or []


def get_protocol(name: str) -> Protocol:
    """The test protocol of this name, or the one of the model of this name.

    Raises:
        UsageError: neither a protocol nor a model.
    """
    manifest = load_manifest()
    if is_foreign_name(name):
        return foreign_protocol(name)
    if name in manifest.models or is_timm_name(name):
        name = entry(name).protocol
    if name not in manifest.protocols:
        known = ", ".join(manifest.protocols)
        raise UsageError(f"unknown protocol {name!r}{suggestion(name, manifest.protocols)}; there are: {known}")
    return manifest.protocols[name]


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    backbone_checkpoint: str | Path | None = None,
    num_classes: int | None = None,
    device: str = "cpu",
    strict: bool = True,
    fuse: bool = False,
) -> nn.Module:
    """A model of the zoo in evaluation mode: image [B, 3, H, W] float, normalised -> logits [B, C, h, w].

    Args:
        name: a name of the zoo.
        pretrained: load the published weights, downloading them first where needed.
        checkpoint: load this file instead.
        backbone_checkpoint: start the backbone alone from this pretraining file, to train from; position tables are
            resized, the heads stay fresh and `load_report` says what the file lacked.
        num_classes: another number of classes than the entry's.
        device: where the model's tensors are made, "meta" included.
        strict: weights that do not fit in full are an error; else what fits is loaded, and the model's attribute
            `load_report` (a LoadReport, on every model with weights from a file) says what did not.
        fuse: fold batch norms into the convolutions before them, as `model.fuse()` does; for inference alone.

    Raises:
        UsageError: unknown name, `pretrained` for an entry without weights, or `backbone_checkpoint` beside others.
        IntegrityError: weights that are unsafe, corrupt or do not fit.
        NetworkError: no mirror answered.
    """
    from segzoo.models.segmentor import build_segmentor, fuse_parts

    if backbone_checkpoint is not None and (pretrained or checkpoint is not None):
        raise UsageError("backbone_checkpoint is for a model without weights; leave out pretrained and checkpoint")
    model_entry = entry(name)
    if pretrained and is_timm_name(name):
        model_entry, pretrained = with_timm_weights(model_entry), False
    if pretrained and checkpoint is None and is_foreign_name(name):
        model_entry, pretrained = with_foreign_weights(model_entry), needs_checkpoint(name)
    if checkpoint is None and pretrained:
        from segzoo.weights.download import fetch

        checkpoint = fetch(name, model_entry)
    if checkpoint is not None and not Path(checkpoint).exists():
        # Before the model is built, which may compile its kernels.
        raise IntegrityError(f"cannot read the weights file {checkpoint}: No such file or directory")
    model = build_segmentor(model_entry.architecture, num_classes or model_entry.num_classes, device=device)
    report = None
    if checkpoint is not None:
        from segzoo.weights.load import load_weights

        report = load_weights(model, Path(checkpoint), name=name, strict=strict)
    elif backbone_checkpoint is not None:
        from segzoo.weights.backbone import load_backbone

        report = load_backbone(model, Path(backbone_checkpoint), name=name)
    if report is not None:
        # Not through nn.Module.__setattr__, which is typed for tensors and modules.
        object.__setattr__(model, "load_report", report)
    model.eval()
    if fuse:
        fuse_parts(model)
    return model
