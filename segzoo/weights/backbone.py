"""Starts a model's backbone from a pretraining checkpoint, whose names, heads and resolution are others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from segzoo.errors import IntegrityError, UsageError
from segzoo.weights.folder import checkpoint_file
from segzoo.weights.layouts import to_names_of
from segzoo.weights.load import LoadReport, Misshapen
from segzoo.weights.positions import relative_span, resize_position_embedding, resize_relative_table
from segzoo.weights.read import read_state_dict

# Where a pretraining file keeps the network that is wanted. Its other parts (a teacher, a decoder, the second
# encoder of contrastive learning) have keys of the same form, so the places are named and not guessed.
_PLACES = ("", "backbone.", "segformer.encoder.", "segnext.encoder.", "encoder.", "base_encoder.")
_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
_TABLE = ".attn.relative_position_bias_table"
# Computed from the model's size, not trained; a file made at another resolution has others.
_COMPUTED = ("num_batches_tracked", "relative_position_index")


def load_backbone(model: nn.Module, path: Path, *, name: str) -> LoadReport:
    """Loads what a pretraining file has for `model.backbone` (or for `model` itself), in place, and reports.

    The file may lack what the segmentation model adds (pyramid, norms of the outputs, relative positions) and may
    have what it does not use (a classifier, a teacher, a decoder). Position tables of another resolution are resized.

    Args:
        model: a segmentor or a bare backbone, on a real device.
        path: a file of torch.save or safetensors, see `read_state_dict`.
        name: the model's name, for messages.

    Raises:
        IntegrityError: the file is unsafe or corrupt, or of a network of another width or depth.
        UsageError: the model is on the meta device, which holds no values.
    """
    path = checkpoint_file(path)
    backbone = getattr(model, "backbone", model)
    own = backbone.state_dict()
    if any(tensor.is_meta for tensor in own.values()):
        raise UsageError(f"{name} is on the meta device, which cannot hold weights; build it on cpu or cuda")
    everything, layout, _ = to_names_of(model.state_dict(), read_state_dict(path))
    place, state = backbone_part(everything, own)
    state = {key: value for key, value in fit_positions(state, own).items() if not key.endswith(_COMPUTED)}
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    absent = [key for key in own if key not in state]
    report = LoadReport(
        name=name,
        path=path,
        layout=f"{layout}, {place.rstrip('.')}" if place else layout,
        loaded=len(fitting),
        missing=tuple(key for key in absent if not key.endswith(_COMPUTED)),
        unexpected=tuple(key for key in state if key not in own),
        misshapen=tuple(
            Misshapen(key, tuple(value.shape), tuple(own[key].shape))
            for key, value in state.items()
            if key in own and key not in fitting
        ),
        tolerated=tuple(key for key in absent if key.endswith(_COMPUTED)),
    )
    _check(report, state, own)
    with torch.no_grad():
        backbone.load_state_dict(fitting, strict=False)
    return report


def backbone_part(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """(the place in the file that has most of the backbone's keys, what is there, without the place's name)."""
    parts = {
        place: {key.removeprefix(place): value for key, value in state.items() if key.startswith(place)}
        for place in _PLACES
    }
    return max(parts.items(), key=lambda part: len(part[1].keys() & own.keys()))


def fit_positions(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with its position tables brought to the sizes of `own`; a table shared by all blocks goes to each.

    Tables that differ in more than the number of positions stay as they are.
    """
    fitted = dict(state)
    shared = fitted.pop(_SHARED_TABLE, None)
    if shared is not None:
        fitted |= {key: shared for key in own if key.endswith(_TABLE)}
    for key, value in fitted.items():
        wanted = own[key].shape if key in own else value.shape
        if value.shape == wanted or value.shape[-1] != wanted[-1] or value.ndim != len(wanted):
            continue
        if key == "pos_embed":
            fitted[key] = resize_position_embedding(value, wanted[1])
        elif key.endswith(_TABLE) and relative_span(value.shape[0]) and relative_span(wanted[0]):
            fitted[key] = resize_relative_table(value, wanted[0])
    return fitted


def _check(report: LoadReport, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    blocks, own_blocks = _numbered(state), _numbered(own)
    # A list of blocks that both sides have must have the same length: this is how a depth shows.
    lists = {block.rpartition(".")[0] for block in blocks} & {block.rpartition(".")[0] for block in own_blocks}
    other = sorted(block for block in blocks ^ own_blocks if block.rpartition(".")[0] in lists)
    if not report.loaded or report.misshapen or other:
        depth = f"\n  of another depth: {', '.join(other[:6])} on one side only" if other else ""
        raise IntegrityError(f"{report.path} is not for the backbone of {report.name}: {report.text()}{depth}")


def _numbered(keys: Iterable[str]) -> set[str]:
    """The parts of the keys that end in a number: "blocks.3" of "blocks.3.norm1.weight"."""
    return {key[: found.end()] for key in keys for found in re.finditer(r"\.\d+(?=\.)", key)}
