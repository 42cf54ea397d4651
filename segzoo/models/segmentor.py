"""Segmentor: backbone, neck and heads as one module; `build_segmentor` makes it from a manifest's words.

A component's `type` is the name of its file: {type: nat} is segzoo/models/backbones/nat.py, and its other
words are the parameters of that file's `build`. Heads get the channels of the maps they read and the
number of classes as well. A `segmentor` stands for neck and heads at once and gets the backbone itself.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segzoo import kernels
from segzoo.errors import UsageError, suggestion
from segzoo.zoo.schema import Architecture


class Segmentor(nn.Module):
    """A semantic segmentation model; the parts' names are the first words of the authors' keys.

    A backbone whose authors call it otherwise says so in its attribute `path_in_model`, such as "segformer.encoder";
    `model.backbone` is the backbone in any case.
    """

    backbone: nn.Module

    def __init__(
        self,
        backbone: nn.Module,
        decode_head: nn.Module,
        *,
        neck: nn.Module | None = None,
        auxiliary_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        *parents, last = getattr(backbone, "path_in_model", "backbone").split(".")
        holder: nn.Module = self
        for name in parents:
            holder.add_module(name, nn.Module())
            holder = getattr(holder, name)
        holder.add_module(last, backbone)
        # Past nn.Module, which would hold it a second time: a plain attribute, and no further key in the state dict.
        object.__setattr__(self, "backbone", holder.get_submodule(last))
        self.neck = neck
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] normalised float -> logits [B, K, h, w] at the head's own resolution."""
        return self.decode_head(self._features(image))

    def forward_outputs(self, image: Tensor) -> dict[str, Tensor]:
        """All that training needs: "logits" and, where there is an auxiliary head, "aux_logits"."""
        features = self._features(image)
        outputs = {"logits": self.decode_head(features)}
        if self.auxiliary_head is not None:
            outputs["aux_logits"] = self.auxiliary_head(features)
        return outputs

    def fuse(self) -> Segmentor:
        """Folds batch norms into the convolutions before them, in place, for inference. Returns the model."""
        fuse_parts(self)
        return self

    def _features(self, image: Tensor) -> list[Tensor]:
        features = self.backbone(image)
        return features if self.neck is None else self.neck(features)


def fuse_parts(model: nn.Module) -> None:
    """Calls `fuse` of every module inside `model` that has one."""
    for module in list(model.modules()):
        if module is not model and callable(fold := getattr(module, "fuse", None)):
            fold()


def build_segmentor(architecture: Architecture, num_classes: int, *, device: str | torch.device = "cpu") -> nn.Module:
    """The model that a manifest's architecture describes, with fresh weights on `device`, in training mode.

    Raises:
        UsageError: an unknown type, or parameters that its `build` does not take.
    """
    with torch.device(device):
        if architecture.foreign is not None:
            return _build("foreign", architecture.foreign, num_classes)
        backbone = _build("backbones", architecture.backbone)
        channels = getattr(backbone, "out_channels", None)
        neck = None
        if architecture.neck is not None:
            neck = _build("necks", architecture.neck, channels)
            channels = getattr(neck, "out_channels", channels)
        if architecture.segmentor is not None:
            model = _build("segmentors", architecture.segmentor, backbone, num_classes)
        elif architecture.head is None:
            model = backbone
        else:
            auxiliary = architecture.auxiliary_head
            model = Segmentor(
                backbone,
                _build("heads", architecture.head, channels, num_classes),
                neck=neck,
                auxiliary_head=None if auxiliary is None else _build("heads", auxiliary, channels, num_classes),
            )
    if torch.device(device).type != "meta":
        # Compiling here and never inside forward keeps it out of every trace and timing.
        kernels.load_for(model, device)
    return model


def _build(group: str, words: dict[str, Any], *inputs: Any) -> nn.Module:
    parameters = dict(words)
    kind = parameters.pop("type", None)
    builder = _builder(group, kind)
    signature = inspect.signature(builder)
    unknown = [word for word in parameters if word not in signature.parameters]
    if unknown:
        near = suggestion(unknown[0], signature.parameters)
        raise UsageError(f"architecture: {kind!r} of {group} has no parameter {unknown[0]!r}{near}")
    try:
        signature.bind(*inputs, **parameters)
    except TypeError as error:
        raise UsageError(f"architecture: {kind!r} of {group}: {error}") from error
    return builder(*inputs, **parameters)


def _builder(group: str, kind: object) -> Callable[..., nn.Module]:
    package = importlib.import_module(f"segzoo.models.{group}")
    known = [module.name for module in pkgutil.iter_modules(package.__path__)]
    if kind not in known:
        near = suggestion(str(kind), known)
        raise UsageError(f"architecture: no {group} of type {kind!r}{near}; there are: {', '.join(known)}")
    return importlib.import_module(f"segzoo.models.{group}.{kind}").build
