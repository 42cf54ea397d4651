"""A model on corrupted images: one evaluation for each corruption, and the table that sums them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from segzoo.data.corruptions import KINDS, STRENGTHS, Corruption, parse_corruptions
from segzoo.evaluation.measures import MEASURES
from segzoo.results import Run, Stopwatch, command_line

_SAME_CONDITIONS = (
    "dataset", "split", "dataset_images", "data_fingerprint", "protocol", "device", "dtype", "kernels", "compile",
    "batch_size", "workers", "fuse", "setup", *MEASURES.values(),
)  # fmt: skip

Row = dict[str, Any]


def evaluations(
    evaluate: Callable[..., Run], corruptions: Sequence[Corruption], name: str, **folders: Path | None
) -> list[Run]:
    """One evaluation of a model, or with corruptions what `robustness` gives.

    Args:
        evaluate: makes an evaluation of a name.
        corruptions: none or some.
        name: the model's.
        folders: see `robustness`.
    """
    if not corruptions:
        return [evaluate(name, **folders)]
    return robustness(partial(evaluate, name), corruptions, folders)


def robustness(
    evaluate: Callable[..., Run], corruptions: Sequence[Corruption], folders: Mapping[str, Path | None] | None = None
) -> list[Run]:
    """Evaluates on the images as they are and on each corruption of them.

    Args:
        evaluate: makes one evaluation; takes `corruption`, a word such as "fog:3" or None, and the folders.
        corruptions: at least one.
        folders: further arguments of `evaluate` that are folders or None; each evaluation gets one of its own in
            them, "clean", "fog-3", ...

    Returns:
        The summary (`summarised`), the clean evaluation, and that of each corruption.
    """
    watch = Stopwatch()
    folders = folders or {}
    clean = evaluate(corruption=None, **_below(folders, "clean"))
    corrupted = [
        evaluate(corruption=str(item), **_below(folders, f"{item.kind}-{item.strength}")) for item in corruptions
    ]
    return [summarised(clean, dict(zip(corruptions, corrupted, strict=True)), watch), clean, *corrupted]


def _below(folders: Mapping[str, Path | None], name: str) -> dict[str, Path | None]:
    return {key: None if folder is None else folder / name for key, folder in folders.items()}


def summarised(clean: Run, corrupted: dict[Corruption, Run], watch: Stopwatch) -> Run:
    """The mean performance under corruption as one record, with a row for each kind in the breakdown "corruption".

    The mean is over the strengths of a kind and then over the kinds (mPC; Michaelis et al., 2019), and its share of
    the clean mIoU is the relative performance under corruption (rPC).
    """
    base = clean.metrics["miou_percent"]
    rows = [_row(kind, base, corrupted) for kind in dict.fromkeys(item.kind for item in corrupted)]
    means = [row["mean_percent"] for row in rows]
    mean = None if None in means else sum(means) / len(means)
    unlike = [str(item) for item, run in corrupted.items() if _strengths(item.kind, corrupted) != list(STRENGTHS)]
    notes = ["not all five strengths of every kind: the means are not those of other tables"] if unlike else []
    return Run(
        command="robustness",
        model=clean.model,
        metrics={
            "miou_percent": base,
            "corrupted_miou_percent": mean,
            "relative_percent": None if mean is None or not base else 100.0 * mean / base,
            "corruptions": len(corrupted),
            "images": clean.metrics["images"],
        },
        conditions={
            **{key: clean.conditions[key] for key in _SAME_CONDITIONS if key in clean.conditions},
            "corruptions": [str(item) for item in corrupted],
        },
        breakdown={"corruption": rows},
        notes=[*dict.fromkeys([*clean.notes, *notes])],
        environment=clean.environment,
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status=clean.status,
    )


def corruptions_of(summary: Run) -> list[Corruption]:
    """The corruptions that a record of `summarised` sums up."""
    return parse_corruptions(summary.conditions["corruptions"])


def _row(kind: str, base: float | int | None, corrupted: dict[Corruption, Run]) -> Row:
    """mIoU by strength, their mean, and how much of the clean mIoU is lost."""
    values = {item.strength: run.metrics["miou_percent"] for item, run in corrupted.items() if item.kind == kind}
    known = [value for value in values.values() if value is not None]
    mean = sum(known) / len(known) if known else None
    return {
        "corruption": kind,
        "family": KINDS[kind].family,
        **{f"strength_{strength}_percent": values.get(strength) for strength in STRENGTHS},
        "mean_percent": mean,
        "relative_drop_percent": None if mean is None or not base else 100.0 * (1 - mean / base),
    }


def _strengths(kind: str, corrupted: dict[Corruption, Run]) -> list[int]:
    return sorted(item.strength for item in corrupted if item.kind == kind)
