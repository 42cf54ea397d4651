"""One model in every number format of a device: what it costs in mIoU and labels, and what it gains in time.

All formats work on an image before the next image is read, in an order that changes from image to image. So what
else the machine does meets all of them alike, and the ratios of times can be trusted where the times cannot.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segzoo import kernels
from segzoo.data import Dataset, Pair, ignore_value
from segzoo.data.ahead import read_ahead
from segzoo.device import DTYPES, device_name, synchronize
from segzoo.errors import SegzooError
from segzoo.evaluation.record import conditions_of, image_row, percent
from segzoo.evaluation.summing import summed_up
from segzoo.inference import Network, predict_with
from segzoo.metrics import ConfusionMatrix, scores
from segzoo.protocol import Protocol
from segzoo.results import Run, Stopwatch, command_line, environment

REFERENCE = "fp32"

Row = dict[str, Any]


@dataclass
class _Variant:
    """One format, compiled or not, and what was found with it."""

    dtype: str
    compile: bool
    network: Network
    confusion: ConfusionMatrix
    seconds: float = 0.0
    pixels: int = 0
    agreeing: int = 0
    peak_memory_bytes: int | None = None
    reason: str | None = None
    images: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The format, with a word for a compiled one."""
        return f"{self.dtype} compiled" if self.compile else self.dtype


def precision_report(
    model: nn.Module,
    dataset: Dataset,
    protocol: Protocol,
    *,
    name: str,
    device: torch.device,
    compile: bool = False,
    batch_size: int | None = None,
    limit: int | None = None,
    workers: int = 1,
    progress: Callable[[Iterable[Pair], int], Iterable[Pair]] | None = None,
) -> list[Run]:
    """Evaluates in fp32, tf32, bf16 and fp16, as far as the device and the model can.

    The first image is predicted once more beforehand in every format and not timed. Formats that cannot be used
    have a row with the reason.

    Args:
        model: in evaluation mode; it is moved to `device`.
        dataset, protocol, batch_size, limit, workers, progress: as for `evaluate`.
        name: the model's, for the records.
        compile: every format through torch.compile as well.

    Returns:
        The summary, with a row for each format in the breakdown "precision", and a record of the command "eval" for
        each format that can be used.

    Raises:
        SegzooError: the model cannot run in fp32; or what `evaluate` raises.
    """
    watch = Stopwatch()
    kernels.load_for(model, device)
    model = model.to(device)
    variants = _variants(model, dataset, device, compile, batch_size)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    pairs: Iterable[Pair] = read_ahead(dataset, range(count), workers)
    for number, pair in enumerate(pairs if progress is None else progress(pairs, count)):
        if number == 0:
            _warm_up(variants, pair, protocol)
        _measure(variants, pair, protocol, number)
    how = {"compile": compile, "batch_size": batch_size, "workers": workers}
    conditions = {**conditions_of(dataset, protocol, device), **how}
    facts = {"name": name, "params": sum(item.numel() for item in model.parameters())}
    notes = [] if count == len(dataset) else [f"partial: the first {count} of {len(dataset)} images"]
    return _runs(variants, dataset.classes, facts, conditions, [*notes, *kernels.notes()], watch)


def _variants(
    model: nn.Module, dataset: Dataset, device: torch.device, compile: bool, batch_size: int | None
) -> list[_Variant]:
    found = []
    for compiled in (False, True) if compile else (False,):
        module = cast(nn.Module, torch.compile(model)) if compiled else model
        for dtype in DTYPES:
            network = Network(module, device=device, dtype=dtype, batch_size=batch_size)
            confusion = ConfusionMatrix(dataset.num_classes, ignore=ignore_value(dataset.num_classes))
            found.append(_Variant(dtype, compiled, network, confusion))
    return found


def _warm_up(variants: list[_Variant], pair: Pair, protocol: Protocol) -> None:
    """Runs every format once; one that cannot be used gets its reason, and only the reference must be usable."""
    for variant in variants:
        try:
            predict_with(variant.network, pair.image, protocol)
        except SegzooError as error:
            if variant is variants[0]:
                raise
            variant.reason = str(error)


def _measure(variants: list[_Variant], pair: Pair, protocol: Protocol, number: int) -> None:
    """One image in every format that can be used, each beginning in turn."""
    usable = [variant for variant in variants if variant.reason is None]
    turn = number % len(usable)
    predictions: dict[str, NDArray[Any]] = {}
    for variant in [*usable[turn:], *usable[:turn]]:
        try:
            predictions[variant.name] = _timed(variant, pair, protocol)
        except SegzooError as error:
            if variant is variants[0]:
                raise type(error)(f"image {pair.name}: {error}") from error
            variant.reason = f"image {pair.name}: {error}"
    reference = predictions[REFERENCE]
    for variant in usable:
        if variant.name in predictions:
            counts = variant.confusion.update(predictions[variant.name], pair.label)
            variant.images.append(image_row(pair.name, scores(counts)))
            variant.pixels += reference.size
            variant.agreeing += int(np.count_nonzero(predictions[variant.name] == reference))


def _timed(variant: _Variant, pair: Pair, protocol: Protocol) -> NDArray[Any]:
    device = variant.network.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    synchronize(device)
    begun = time.perf_counter()
    prediction = predict_with(variant.network, pair.image, protocol)
    synchronize(device)
    variant.seconds += time.perf_counter() - begun
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        variant.peak_memory_bytes = max(peak, variant.peak_memory_bytes or 0)
    return prediction


def _runs(
    variants: list[_Variant], classes: list[str], model: Row, conditions: Row, notes: list[str], watch: Stopwatch
) -> list[Run]:
    reference = variants[0]
    rows = [_row(variant, reference) for variant in variants]
    device = reference.network.device
    base = Run(
        command="precision",
        model=model,
        conditions={**conditions, "dtype": REFERENCE},
        notes=notes,
        environment=environment(device_name(device)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="partial" if any(note.startswith("partial") for note in notes) else "ok",
    )
    memory = [] if device.type == "cuda" else [f"memory is measured on CUDA devices, not on {device.type}"]
    summary = dataclasses.replace(
        base,
        metrics={
            "miou_percent": percent(scores(reference.confusion.counts).mean_iou),
            "formats": sum(variant.reason is None for variant in variants),
            "images": len(reference.images),
        },
        breakdown={"precision": rows},
        notes=[*notes, *memory],
    )
    return [summary, *(_run(variant, classes, base) for variant in variants if variant.reason is None)]


def _row(variant: _Variant, reference: _Variant) -> Row:
    """A format's figures beside those of the reference; the reason alone where it cannot be used."""
    if variant.reason is not None:
        return {**dict.fromkeys(_COLUMNS), "format": variant.name, "not used because": variant.reason}
    ours, theirs = (percent(scores(item.confusion.counts).mean_iou) for item in (variant, reference))
    return {
        "format": variant.name,
        "miou_percent": ours,
        "difference_percent": None if ours is None or theirs is None else ours - theirs,
        "same_labels_percent": 100.0 * variant.agreeing / variant.pixels,
        "speed": reference.seconds / variant.seconds,
        "images_per_second": len(variant.images) / variant.seconds,
        "peak_memory_mib": None if variant.peak_memory_bytes is None else variant.peak_memory_bytes / 2**20,
        "not used because": None,
    }


_COLUMNS = (
    "format", "miou_percent", "difference_percent", "same_labels_percent", "speed", "images_per_second",
    "peak_memory_mib", "not used because",
)  # fmt: skip


def _run(variant: _Variant, classes: list[str], base: Run) -> Run:
    """A format's evaluation as a record of its own."""
    metrics, breakdown = summed_up(classes, {"confusion": variant.confusion.counts}, variant.images)
    return dataclasses.replace(
        base,
        command="eval",
        metrics={**metrics, "images_per_second": len(variant.images) / variant.seconds},
        conditions={**base.conditions, "dtype": variant.dtype, "compile": variant.compile},
        breakdown=breakdown,
    )
