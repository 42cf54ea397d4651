"""Rewrites a checkpoint under the names of another layout, checked against the model it is for."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from segzoo.errors import IntegrityError, SegzooError, UsageError
from segzoo.results import Run, Stopwatch, command_line, environment, write_text_atomically
from segzoo.weights.folder import checkpoint_file
from segzoo.weights.layout import Layout
from segzoo.weights.layouts import detect_layout, layout_named, to_names_of, translate
from segzoo.weights.layouts_segformer import HUGGING_FACE, HUGGING_FACE_5
from segzoo.weights.load import LoadReport, compare
from segzoo.weights.read import read_state_dict
from segzoo.weights.records import weights_sha256
from segzoo.zoo.schema import Model


def convert(name: str, model: nn.Module, model_entry: Model, checkpoint: Path, *, to: str, output: Path) -> Run:
    """Writes the checkpoint of a model of the zoo in the layout `to` and says what became of it.

    What the file's layout never has and the new one does (SegFormer's unused `conv_seg`) is filled with zeros.

    Args:
        name: the model's name, for messages.
        model: the model, with the checkpoint's number of classes; its values are not read, so the meta device will do.
        model_entry: its entry in the manifest.
        checkpoint: a weights file in any known layout, or a folder of the Hugging Face Hub.
        to: a word of `layouts_for`, such as "original", "hugging-face" or "native".
        output: a file, ".safetensors" or else of torch.save; for a Hugging Face layout also a folder (a path without
            suffix), which gets config.json too.

    Raises:
        UsageError: a layout that the model has not, or a folder for a layout that has none.
        IntegrityError: the checkpoint is unsafe or corrupt, or does not fit the model.
        SegzooError: the output cannot be written.
    """
    watch = Stopwatch()
    source = checkpoint_file(checkpoint)
    own = model.state_dict()
    layout = layout_named(to, own)
    state, report = _fitted(name, source, own)
    written = translate(state, detect_layout(own), layout)
    target = _write(written, output, layout, model_entry, classes=_classes(state))
    filled = [key for key in report.tolerated if not layout.never_has(key)]
    return Run(
        command="convert",
        model={"name": name, "layout": to},
        metrics={"tensors": len(written), "bytes": target.stat().st_size},
        conditions={
            "checkpoint": str(source),
            "from": report.layout if report.layout != "native" else detect_layout(own).name,
            "to": to,
            "path": str(target),
            "sha256": weights_sha256(target),
        },
        notes=[f"filled with zeros, since the checkpoint lacks it: {', '.join(filled)}"] if filled else [],
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _fitted(name: str, source: Path, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], LoadReport]:
    """The checkpoint under the model's names, whole and in the model's order."""
    translation = to_names_of(own, read_state_dict(source))
    report = compare(name, source, translation, own)
    if not report.perfect:
        advice = "\ngive the checkpoint's classes with --num-classes" if report.class_counts else ""
        raise IntegrityError(f"{source} does not fit {name}: {report.text()}{advice}")
    return {
        key: translation.state[key] if key in translation.state else torch.zeros(value.shape, dtype=value.dtype)
        for key, value in own.items()
    }, report


def _write(state: dict[str, Tensor], output: Path, layout: Layout, model: Model, *, classes: int) -> Path:
    """Writes the tensors to a file or to a folder's file; the path of that file."""
    if output.suffix and not output.is_dir():
        _write_file(state, output)
        return output
    if layout not in (HUGGING_FACE, HUGGING_FACE_5):
        raise UsageError(f"{output} has no suffix, and only a Hugging Face layout is written as a folder; add .pth")
    config = json.dumps(hugging_face_config(model, classes), indent=2)
    target = output / "model.safetensors"
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegzooError(f"cannot make the folder {output}: {error.strerror}") from error
    write_text_atomically(output / "config.json", config + "\n")
    _write_file(state, target)
    return target


def _write_file(state: dict[str, Tensor], target: Path) -> None:
    # Tensors that share memory (keys and values were one) would be refused or written twice as large.
    apart = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(descriptor)
        if target.suffix == ".safetensors":
            safetensors.torch.save_file(apart, temporary, metadata={"format": "pt"})
        else:
            torch.save(apart, temporary)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        raise SegzooError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def hugging_face_config(model: Model, num_classes: int) -> dict[str, object]:
    """config.json of transformers' SegformerForSemanticSegmentation for a plain SegFormer of the zoo."""
    backbone, head = model.architecture.backbone, model.architecture.head or {}
    stages = len(backbone["embed_dims"])
    ratios = backbone.get("mlp_ratios", [backbone.get("mlp_ratio", 4.0)] * stages)
    names = {str(index): f"LABEL_{index}" for index in range(num_classes)}
    return {
        "architectures": ["SegformerForSemanticSegmentation"],
        "model_type": "segformer",
        "num_channels": 3,
        "num_encoder_blocks": stages,
        "depths": backbone["depths"],
        "hidden_sizes": backbone["embed_dims"],
        "num_attention_heads": backbone.get("num_heads", [1, 2, 5, 8]),
        "sr_ratios": backbone.get("sr_ratios", [8, 4, 2, 1]),
        # transformers 5 takes whole numbers only.
        "mlp_ratios": [int(ratio) if ratio == int(ratio) else ratio for ratio in ratios],
        "patch_sizes": [7, 3, 3, 3],
        "strides": [4, 2, 2, 2],
        "hidden_act": "gelu",
        "drop_path_rate": backbone.get("drop_path_rate", 0.1),
        "classifier_dropout_prob": head.get("dropout", 0.1),
        "decoder_hidden_size": head.get("embed_dim", 256),
        "semantic_loss_ignore_index": 255,
        "id2label": names,
        "label2id": {label: int(index) for index, label in names.items()},
    }


def _classes(state: dict[str, Tensor]) -> int:
    """Classes of a SegFormer's classifier, under either of its names."""
    for key in ("decode_head.linear_pred.bias", "decode_head.classifier.bias"):
        if key in state:
            return state[key].shape[0]
    return 0
