"""Evaluation of a model of the zoo by its name: weights, data set, protocol and published figure from the manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from segzoo.data import Dataset, open_dataset
from segzoo.device import pick_device
from segzoo.errors import UsageError
from segzoo.evaluation.kept import Keeper
from segzoo.evaluation.loop import evaluate
from segzoo.evaluation.published import expected_miou
from segzoo.evaluation.shares import Progress
from segzoo.processes.group import Group
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Run
from segzoo.weights.load import LoadReport
from segzoo.weights.records import weights_sha256
from segzoo.zoo.manifest import load_manifest


def evaluate_name(
    name: str,
    *,
    dataset: str | Path | None = None,
    split: str = "val",
    data_root: str | Path | None = None,
    protocol: str | None = None,
    aug_test: bool = False,
    checkpoint: str | Path | None = None,
    strict: bool = True,
    fuse: bool = False,
    device: str = "cpu",
    dtype: str = "fp32",
    batch_size: int | None = None,
    limit: int | None = None,
    workers: int = 1,
    save_predictions: str | Path | None = None,
    boundary: bool = False,
    calibration: bool = False,
    analysis: str | Path | None = None,
    progress: Progress | None = None,
    group: Group | None = None,
    keeper: Keeper | None = None,
) -> Run:
    """Accuracy of a model of the zoo with its published weights, beside the published figure.

    Args:
        name: a name of the zoo.
        dataset: another data set than the model's, by name or folder. With the published weights it must have
            as many classes; with a checkpoint the model gets as many as it has.
        split: "val", ...
        data_root: where the data set's files are.
        protocol: another protocol than the model's, by name.
        aug_test: six scales and flipping on top of the protocol.
        checkpoint: weights to use in place of the published ones.
        strict: weights must fit in full.
        fuse: fold batch norms into the convolutions before them.
        device: "cpu", "cuda", "auto", ...
        dtype: "fp32", "tf32", "bf16" or "fp16".
        batch_size: windows of an image that the network gets at once.
        limit: only the first images; the record is then partial.
        workers: threads that read images ahead.
        save_predictions: a folder for PNGs of class indices.
        boundary, calibration, analysis, progress, group, keeper: see `evaluate`.

    Raises:
        UsageError: unknown names, a model without weights, or numbers of classes that differ.
        UnavailableError: a device that this machine does not have.
        DatasetError: data that are missing or faulty.
        IntegrityError, NetworkError: weights that cannot be had or do not fit.
    """
    model_entry = entry(name)
    own = get_protocol(name)
    base = get_protocol(protocol) if protocol else own
    used = base.aug_test() if aug_test else base
    pick_device(device)
    # Device and data first: they are checked in a moment, weights may be a long download.
    data = open_dataset(dataset or model_entry.dataset, root=data_root, split=split)
    if checkpoint is None and data.num_classes != model_entry.num_classes:
        raise UsageError(
            f"{name} has {model_entry.num_classes} classes, {data.name} has {data.num_classes}; "
            f"{name} was made for {model_entry.dataset}"
        )
    model = create_model(
        name,
        pretrained=checkpoint is None,
        checkpoint=checkpoint,
        num_classes=data.num_classes,
        strict=strict,
        fuse=fuse,
    )
    run = evaluate(
        model,
        data,
        used,
        name=name,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        limit=limit,
        workers=workers,
        save_predictions=save_predictions,
        boundary=boundary,
        calibration=calibration,
        analysis=analysis,
        progress=progress,
        group=group,
        keeper=keeper,
    )
    expected = []
    if data.name == model_entry.dataset and split == "val":
        expected = expected_miou(model_entry.published, own, used, run.metrics["miou_percent"])
    missing = _missing_images(data)
    return dataclasses.replace(
        run,
        model={**run.model, **_weights_facts(model)},
        conditions={
            **run.conditions,
            "protocol": _protocol_word(protocol or model_entry.protocol, aug_test),
            "fuse": fuse,
        },
        expected=expected,
        notes=[*run.notes, *missing, *_load_notes(model)],
        status="partial" if missing else run.status,
    )


def _protocol_word(name: str, aug_test: bool) -> str:
    return f"{name} + aug-test" if aug_test else name


def _missing_images(data: Dataset) -> list[str]:
    """A note where the folder holds another number of pairs than the published split."""
    entry_of_data = load_manifest().datasets.get(data.name)
    split = entry_of_data.splits.get(data.split) if entry_of_data else None
    if split is None or split.count is None or len(data) in (split.count, *split.other_counts):
        return []
    return [f"partial: {len(data)} images are here, the published {data.name} {data.split} has {split.count}"]


def _weights_facts(model: nn.Module) -> dict[str, Any]:
    """Hash, layout and file of the weights, from the report that loading them left."""
    report: LoadReport | None = getattr(model, "load_report", None)
    if report is None:
        return {}
    return {
        "weights_sha256": weights_sha256(report.path),
        "layout": report.layout,
        "weights": report.path.name,
    }


def _load_notes(model: nn.Module) -> list[str]:
    report: LoadReport | None = getattr(model, "load_report", None)
    return [] if report is None or report.perfect else [f"weights: {report.summary}"]
