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
from segzoo.evaluation.precision_report import precision_report
from segzoo.evaluation.published import expected_miou
from segzoo.evaluation.shares import Progress
from segzoo.processes.group import Group
from segzoo.protocol import Protocol
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Expected, Run
from segzoo.weights.digest import digest_of
from segzoo.weights.load import LoadReport
from segzoo.weights.records import weights_sha256
from segzoo.zoo.foreign_names import assumptions, chooses_classes, foreign_protocol, is_foreign_name, protocol_word
from segzoo.zoo.manifest import load_manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """With which weights, on which data, by which protocol and where a model of the zoo is evaluated.

    Attributes:
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
    """

    dataset: str | Path | None = None
    split: str = "val"
    data_root: str | Path | None = None
    protocol: str | None = None
    aug_test: bool = False
    checkpoint: str | Path | None = None
    strict: bool = True
    fuse: bool = False
    device: str = "cpu"

    def words(self) -> dict[str, Any]:
        """The fields as a record holds them: `Setup(**words)` is this setup again."""
        fields = dataclasses.asdict(self)
        return {key: str(value) if isinstance(value, Path) else value for key, value in fields.items()}


AS_PUBLISHED = Setup()
"""Published weights, data and protocol, on the CPU."""


def evaluate_name(
    name: str,
    setup: Setup = AS_PUBLISHED,
    *,
    dtype: str = "fp32",
    compile: bool = False,
    batch_size: int | None = None,
    corruption: str | None = None,
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
    """Accuracy of a model of the zoo, beside the published figure.

    Args:
        name: a name of the zoo.
        setup: weights, data set, protocol and device.
        dtype: "fp32", "tf32", "bf16" or "fp16".
        batch_size: windows of an image that the network gets at once.
        limit: only the first images; the record is then partial.
        workers: threads that read images ahead.
        save_predictions: a folder for PNGs of class indices.
        compile, corruption, boundary, calibration, analysis, progress, group, keeper: see `evaluate`.

    Raises:
        UsageError: unknown names, a model without weights, or numbers of classes that differ.
        UnavailableError: a device that this machine does not have.
        DatasetError: data that are missing or faulty.
        IntegrityError, NetworkError: weights that cannot be had or do not fit.
    """
    opened = open_name(name, setup)
    run = evaluate(
        opened.model,
        opened.dataset,
        opened.protocol,
        name=name,
        device=setup.device,
        dtype=dtype,
        compile=compile,
        batch_size=batch_size,
        corruption=corruption,
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
    return opened.completed(run)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A model of the zoo with its weights, and what it is evaluated on.

    Attributes:
        name: of the zoo.
        protocol_word: the protocol's name.
        setup: what was asked for.
        assumed: what was guessed of a model from elsewhere.
    """

    name: str
    model: nn.Module
    dataset: Dataset
    protocol: Protocol
    protocol_word: str
    setup: Setup
    assumed: list[str]

    def completed(self, run: Run) -> Run:
        """The record with the facts of weights and data, and beside a plain evaluation the published figure."""
        missing = _missing_images(self.dataset)
        return dataclasses.replace(
            run,
            model={**run.model, **_weights_facts(self.model)},
            conditions={
                **run.conditions,
                "protocol": self.protocol_word,
                "fuse": self.setup.fuse,
                "setup": self.setup.words(),
            },
            expected=self._expected(run),
            notes=[*run.notes, *missing, *self.assumed, *_load_notes(self.model)],
            status="partial" if missing else run.status,
        )

    def _expected(self, run: Run) -> list[Expected]:
        model_entry = entry(self.name)
        own_data = self.dataset.name == model_entry.dataset and self.dataset.split == "val"
        if run.command != "eval" or not own_data or "corruption" in run.conditions:
            return []
        own = get_protocol(self.name)
        return expected_miou(model_entry.published, own, self.protocol, run.metrics["miou_percent"])


def open_name(name: str, setup: Setup) -> Opened:
    """The model, data set and protocol of an evaluation; errors are those of `evaluate_name`."""
    protocol, word, assumed = _protocol_of(name, setup)
    pick_device(setup.device)
    # Device and data first: they are checked in a moment, weights may be a long download.
    data = _open_data(name, setup)
    model = create_model(
        name,
        pretrained=setup.checkpoint is None,
        checkpoint=setup.checkpoint,
        num_classes=data.num_classes,
        strict=setup.strict,
        fuse=setup.fuse,
    )
    return Opened(
        name=name,
        model=model,
        dataset=data,
        protocol=protocol.aug_test() if setup.aug_test else protocol,
        protocol_word=f"{word} + aug-test" if setup.aug_test else word,
        setup=setup,
        assumed=assumed,
    )


def precision_report_name(
    name: str,
    setup: Setup = AS_PUBLISHED,
    *,
    compile: bool = False,
    batch_size: int | None = None,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Run]:
    """The records of `precision_report` for a model of the zoo; arguments are those of `evaluate_name`."""
    opened = open_name(name, setup)
    runs = precision_report(
        opened.model,
        opened.dataset,
        opened.protocol,
        name=name,
        device=pick_device(setup.device),
        compile=compile,
        batch_size=batch_size,
        limit=limit,
        workers=workers,
        progress=progress,
    )
    return [opened.completed(run) for run in runs]


def _protocol_of(name: str, setup: Setup) -> tuple[Protocol, str, list[str]]:
    """The protocol without --aug-test, its name, and what was guessed of a model from elsewhere."""
    chosen, model_entry = setup.protocol, entry(name)
    if not is_foreign_name(name):
        return get_protocol(chosen or name), chosen or model_entry.protocol, []
    data = str(setup.dataset) if setup.dataset is not None else None
    protocol = foreign_protocol(name, chosen=chosen, dataset=data)
    word = protocol_word(name, chosen=chosen, dataset=data)
    return protocol, word, assumptions(name, protocol=chosen, dataset=data)


def _open_data(name: str, setup: Setup) -> Dataset:
    """The data set, with a number of classes that the model has or can have."""
    model_entry = entry(name)
    if not setup.dataset and not model_entry.dataset:
        raise UsageError(f"{name} has {model_entry.num_classes} classes, as no data set of the zoo has: give --dataset")
    data = open_dataset(setup.dataset or model_entry.dataset, root=setup.data_root, split=setup.split)
    own_classes = setup.checkpoint is None and not chooses_classes(name)
    if own_classes and data.num_classes != model_entry.num_classes:
        raise UsageError(
            f"{name} has {model_entry.num_classes} classes, {data.name} has {data.num_classes}; "
            f"{name} was made for {model_entry.dataset or 'other data'}"
        )
    return data


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
        # From a library of its own, or a function: no file here that could be hashed.
        return {"values_sha256": digest_of(model)}
    return {
        "weights_sha256": weights_sha256(report.path),
        "layout": report.layout,
        "weights": report.path.name,
    }


def _load_notes(model: nn.Module) -> list[str]:
    report: LoadReport | None = getattr(model, "load_report", None)
    return [] if report is None or report.perfect else [f"weights: {report.summary}"]
