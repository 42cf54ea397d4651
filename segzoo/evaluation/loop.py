"""evaluate(): every image through the protocol, counted exactly; memory grows by an image's counts an image."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segzoo import kernels
from segzoo.data import Dataset, Pair, ignore_value, open_dataset
from segzoo.data.corruptions import CorruptedDataset, corruption_of
from segzoo.data.write import write_indices
from segzoo.device import device_name, pick_device
from segzoo.errors import DatasetError, SegzooError, UsageError
from segzoo.evaluation.analysis import write_analysis
from segzoo.evaluation.image_counts import ImageCounts, arrays_of, sparse_of
from segzoo.evaluation.kept import Keeper
from segzoo.evaluation.measures import Measures, add_counts, image_measures
from segzoo.evaluation.record import conditions_of, image_row
from segzoo.evaluation.shares import Counted, Progress, count_images
from segzoo.evaluation.summing import summed_up
from segzoo.inference import Network, predict_and_count, predict_with_confidence
from segzoo.metrics import ConfusionMatrix, scores
from segzoo.processes.group import Group
from segzoo.protocol import Protocol
from segzoo.registry import get_protocol
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.weights.digest import digest_of


def evaluate(
    model: nn.Module,
    dataset: Dataset | str | Path,
    protocol: Protocol | str,
    *,
    name: str | None = None,
    device: str = "cpu",
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
    """Accuracy of a model on a data set: mIoU, mAcc, aAcc in percent, by class and by image.

    Args:
        model: any module that maps [B, 3, H, W] to logits [B, C, h, w], in evaluation mode; it is moved
            to `device`.
        dataset: pairs of images and class indices; or a name or folder, whose validation split is taken.
        protocol: how images become inputs and logits label maps; or the name of a protocol or model.
        name: the model's name in the record; its type's where None.
        device: "cpu", "cuda", "auto", ...
        dtype: "fp32", "tf32", "bf16" or "fp16".
        compile: run the model through torch.compile.
        batch_size: windows of an image that the network gets at once; results do not depend on it. 1 on the
            CPU and 16 elsewhere where None.
        corruption: what is done to the images first, such as "fog:3"; see segzoo/data/corruptions.py.
        limit: take only the first images; the record is then partial.
        workers: threads that read images ahead.
        save_predictions: a folder to write every prediction to, as a PNG of class indices.
        boundary: also Boundary IoU and the boundary F-score.
        calibration: also the expected calibration error of the predicted class.
        analysis: a folder for tables by class and image, the confusion matrix and pictures, see `write_analysis`;
            brings `boundary` and `calibration` with it.
        progress: wraps the pairs, given with their number, to show how far it is.
        group: the processes that share the images and all get the record; this one alone where None. `device`
            is then the group's.
        keeper: keeps the counts of every image on disk, so that an interrupted evaluation can be continued.

    Raises:
        DatasetError: no pairs, or one that cannot be read.
        UsageError: a model with more classes than the data set; or nothing to resume but an evaluation under
            other conditions.
        SegzooError: logits that are no numbers, or predictions that cannot be written.
        InterruptedRunError: with a keeper, Ctrl-C or SIGTERM.
        PeerLostError: another process of the group has ended.
    """
    watch = Stopwatch()
    group = group or Group(0, 1, pick_device(device))
    place = group.device
    dataset = open_dataset(dataset) if isinstance(dataset, (str, Path)) else dataset
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if len(dataset) == 0:
        raise DatasetError(f"{dataset.name} {dataset.split} has no images")
    dataset = dataset if corruption is None else CorruptedDataset(dataset, corruption_of(corruption))
    count = len(dataset) if limit is None else min(limit, len(dataset))
    # An analysis has everything.
    measures = Measures(
        num_classes=dataset.num_classes,
        ignore=ignore_value(dataset.num_classes),
        boundary=boundary or analysis is not None,
        calibration=calibration or analysis is not None,
    )
    folder = None if save_predictions is None else Path(save_predictions)
    kernels.load_for(model, place)
    model = model.to(place)
    running = cast(nn.Module, torch.compile(model)) if compile else model
    network = Network(_OfClasses(running, dataset), device=place, dtype=dtype, batch_size=batch_size)
    measure = _Measure(network, protocol, dataset, measures, folder)
    conditions = {
        **conditions_of(dataset, protocol, place),
        "dtype": dtype,
        "compile": compile,
        "batch_size": batch_size,
        "workers": workers,
        **({} if corruption is None else {"corruption": str(corruption_of(corruption))}),
        **measures.conditions(),
    }
    begun = watch.seconds
    with ExitStack() as stack:
        kept = None
        if keeper is not None:
            decisive = _what_counts(model, name or type(model).__name__, measure, conditions)
            kept = stack.enter_context(keeper.opened(decisive, rank=group.rank))
        counted = count_images(
            dataset,
            count,
            measure,
            group,
            kept=kept,
            resume=keeper is not None and keeper.resume,
            workers=workers,
            progress=progress,
        )
    seconds = watch.seconds - begun
    images, sums = _rows_and_sums(counted)
    now = count - counted.resumed
    metrics, breakdown = summed_up(dataset.classes, sums, images)
    run = Run(
        command="eval",
        model={"name": name or type(model).__name__, "params": sum(item.numel() for item in model.parameters())},
        metrics={**metrics, "images_per_second": now / seconds if now else None},
        conditions={**conditions, **_how_it_ran(group, counted.resumed)},
        breakdown=breakdown,
        notes=_notes(count, len(dataset)),
        environment=environment(device_name(place)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="ok" if count == len(dataset) else "partial",
    )
    if analysis is not None and group.main:
        write_analysis(Path(analysis), run, sums["confusion"], dataset, measure.predict)
    return run


@dataclass(frozen=True)
class _Measure:
    """Counts one image: predicts it, compares with its label and, where there is a folder, writes the prediction."""

    network: Network
    protocol: Protocol
    dataset: Dataset
    measures: Measures
    folder: Path | None

    def __call__(self, pair: Pair) -> ImageCounts:
        """Arrays by measure, "confusion" [K+1, K+1] among them, that are added up over the images."""
        prediction, confidence, counts = self._predict(pair)
        if self.folder is not None:
            write_indices(self.folder / f"{pair.name}.png", prediction)
        return sparse_of({"confusion": counts, **self.measures.of_image(prediction, pair.label, confidence)})

    def predict(self, pair: Pair) -> NDArray[Any]:
        """Class indices [H, W]; an error says which image it came with."""
        return self._predict(pair)[0]

    def _predict(self, pair: Pair) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.int64]]:
        """Class indices, their confidence where calibration is measured, and the confusion matrix."""
        classes, ignore = self.measures.num_classes, self.measures.ignore
        try:
            if self.measures.calibration:
                prediction, confidence = predict_with_confidence(self.network, pair.image, self.protocol)
                counts = ConfusionMatrix(classes, ignore=ignore).update(prediction, pair.label)
                return prediction, confidence, counts
            prediction, counts = predict_and_count(
                self.network, pair.image, self.protocol, pair.label, num_classes=classes, ignore=ignore
            )
            return prediction, None, counts
        except SegzooError as error:
            raise type(error)(f"image {pair.name}: {error}") from error


class _OfClasses(nn.Module):
    """A model that must have as many classes as a data set, though it may never predict one that is not there."""

    def __init__(self, model: nn.Module, dataset: Dataset) -> None:
        super().__init__()
        self.model, self.dataset = model, dataset

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The model's logits.

        Raises:
            UsageError: they are of another number of classes.
        """
        logits = self.model(image)
        if isinstance(logits, torch.Tensor) and logits.ndim == 4 and logits.shape[1] != self.dataset.num_classes:
            raise UsageError(
                f"the model gives {logits.shape[1]} classes, {self.dataset.name} has {self.dataset.num_classes}; "
                "evaluate it on the data set it was made for"
            )
        return logits


def _rows_and_sums(counted: Counted) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """A row for each image, and what is added up over them; in their order, so that it is the same wherever counted."""
    images: list[dict[str, Any]] = []
    sums: dict[str, NDArray[Any]] = {}
    for image, sparse in counted.images:
        counts = arrays_of(sparse)
        add_counts(sums, counts)
        images.append({**image_row(image, scores(counts["confusion"])), **image_measures(counts)})
    return images, sums


def _what_counts(model: nn.Module, name: str, measure: _Measure, conditions: dict[str, Any]) -> dict[str, Any]:
    """All that changes what is counted in an image: another evaluation must share it to go on with the counts."""
    facts = environment()
    fixed = ["dataset", "split", "dtype", "kernels", "compile", *measure.measures.conditions()]
    if not hasattr(measure.dataset, "pair_mark"):
        # Nothing tells whether a single image is still what it was.
        fixed.append("data_fingerprint")
    return {
        "model": name,
        "weights": digest_of(model),
        "protocol": conditions["protocol_fields"],
        **{key: conditions[key] for key in fixed},
        # An evaluation on corrupted images is one of other images, not the same under other conditions.
        "split": " ".join([conditions["split"], *([conditions["corruption"]] if "corruption" in conditions else [])]),
        "device": conditions["device"].partition(":")[0],
        "save_predictions": None if measure.folder is None else str(measure.folder),
        "segzoo": facts.segzoo,
        "torch": facts.packages.get("torch"),
    }


def _how_it_ran(group: Group, resumed: int) -> dict[str, Any]:
    return {"processes": group.size, **({"resumed_images": resumed} if resumed else {})}


def _notes(count: int, total: int) -> list[str]:
    partial = [] if count == total else [f"partial: the first {count} of {total} images"]
    return [*partial, *kernels.notes()]
