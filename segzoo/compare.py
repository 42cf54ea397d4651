"""Two evaluations of the same images compared: the paired bootstrap. What `segzoo compare` does; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.errors import IntegrityError, UsageError
from segzoo.metrics.bootstrap import Difference, paired_differences
from segzoo.metrics.image_areas import ImageAreas, read_areas
from segzoo.report.reading import read_records
from segzoo.results import Run, Stopwatch, command_line, environment

REPLICATES = 10_000
_SAME_DATA = ("dataset", "split", "data_fingerprint")
_TOLD = ("protocol", "device", "dtype", "corruption", "fuse", "kernels", "compile")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A record of `segzoo eval` with the areas of its images.

    Attributes:
        title: a word for it that the other one does not have.
        areas: a row for each of `images`.
    """

    title: str
    run: Run
    classes: list[str]
    images: list[str]
    areas: ImageAreas


def compare_paths(first: Path, second: Path, *, replicates: int = REPLICATES, seed: int = 0) -> Run:
    """The comparison of two files, each with the record of one evaluation; see `compare`.

    Raises:
        UsageError: a file without an evaluation or with several, or evaluations that cannot be compared.
        IntegrityError: a file that is no record.
    """
    runs = _evaluation_in(first), _evaluation_in(second)
    names = str(runs[0].model.get("name")), str(runs[1].model.get("name"))
    words = (names, (first.stem, second.stem), (str(first), str(second)))
    titles = next((pair for pair in words if pair[0] != pair[1]), words[-1])
    return compare(*runs, titles=titles, replicates=replicates, seed=seed)


def compare(first: Run, second: Run, *, titles: tuple[str, str], replicates: int = REPLICATES, seed: int = 0) -> Run:
    """Mean IoU of the second evaluation less that of the first, over the images that both have.

    Returns:
        A Run with the difference in percentage points, its 95 % interval and p value by the paired bootstrap over
        images, and in the breakdown "class" the same for each class with its winner: the evaluation whose interval
        of the difference leaves out 0, or "-".

    Args:
        titles: what the two are called in the result.
        replicates: draws of images.
        seed: of the draws.

    Raises:
        UsageError: other data, classes or labels, no images in common, or records without areas by image.
    """
    watch = Stopwatch()
    _demand_same_data(first, second, titles)
    one, other, notes = _common(_evaluation(first, titles[0]), _evaluation(second, titles[1]))
    _demand_same_labels(one, other)
    whole, by_class = paired_differences(one.areas, other.areas, replicates=replicates, seed=seed)
    rows = _class_rows(one, other, by_class)
    winners = [row["winner"] for row in rows]
    return Run(
        command="compare",
        model={"name": f"{titles[0]} -> {titles[1]}"},
        metrics={
            "first_miou_percent": _percent(one.areas.total().mean_iou),
            "second_miou_percent": _percent(other.areas.total().mean_iou),
            "difference_percent": _percent(whole.value),
            "difference_low_percent": _percent(whole.interval.low),
            "difference_high_percent": _percent(whole.interval.high),
            "p_value": whole.p_value,
            "images": len(one.images),
            "classes_first_wins": winners.count(titles[0]),
            "classes_second_wins": winners.count(titles[1]),
            "classes_undecided": winners.count("-"),
        },
        conditions={
            **{key: first.conditions.get(key) for key in _SAME_DATA},
            "first": titles[0],
            "second": titles[1],
            "better": _winner(whole, titles),
            "replicates": replicates,
            "seed": seed,
        },
        breakdown={"class": rows},
        notes=[*notes, *_differences(first, second)],
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _evaluation_in(path: Path) -> Run:
    """The one evaluation in a file; that of the clean images where there are some of corrupted ones beside it."""
    runs, _ = read_records([path])
    found = [run for run in runs if run.command == "eval" and run.status != "failed"]
    found = [run for run in found if "corruption" not in run.conditions] or found
    if len(found) != 1:
        commands = ", ".join(sorted({run.command for run in runs}))
        held = f"{len(found)} evaluations" if found else f"no evaluation, but records of {commands}"
        raise UsageError(f"{path} holds {held}; compare takes files of one evaluation each (segzoo eval NAME -o FILE)")
    return found[0]


def _demand_same_data(first: Run, second: Run, titles: tuple[str, str]) -> None:
    for run, title in ((first, titles[0]), (second, titles[1])):
        if run.command != "eval":
            raise UsageError(f"{title} is a record of {run.command!r}; evaluations can be compared")
    for key in _SAME_DATA:
        values = first.conditions.get(key), second.conditions.get(key)
        if values[0] != values[1]:
            words = " and ".join(str(value)[:16] for value in values)
            hint = " (other files, classes or label policy)" if key == "data_fingerprint" else ""
            raise UsageError(
                f"{titles[0]} and {titles[1]} were evaluated on different data: {key.replace('_', ' ')} {words}{hint}; "
                "evaluate both on the same"
            )


def _evaluation(run: Run, title: str) -> Evaluation:
    classes = [row["class"] for row in run.breakdown.get("class", [])]
    rows = run.breakdown.get("image", [])
    if not rows or any("areas" not in row for row in rows):
        raise UsageError(f"the record of {title} has no areas by image; evaluate it again with this segzoo")
    try:
        areas = read_areas((row["areas"] for row in rows), len(classes))
    except ValueError as error:
        raise IntegrityError(f"the record of {title} is damaged: {error}") from error
    return Evaluation(title=title, run=run, classes=classes, images=[row["image"] for row in rows], areas=areas)


def _common(first: Evaluation, second: Evaluation) -> tuple[Evaluation, Evaluation, list[str]]:
    """Both with the images that they share, in the first one's order, and a note where that is not all."""
    places = {name: index for index, name in enumerate(second.images)}
    shared = [(index, places[name]) for index, name in enumerate(first.images) if name in places]
    if not shared:
        raise UsageError(f"{first.title} and {second.title} have no image in common")
    left_out = len(first.images) + len(second.images) - 2 * len(shared)
    notes = [f"{left_out} images that only one of the two has are left out"] if left_out else []
    indices = np.array(shared)
    return _with_images(first, indices[:, 0]), _with_images(second, indices[:, 1]), notes


def _with_images(whole: Evaluation, indices: np.ndarray) -> Evaluation:
    return Evaluation(
        title=whole.title,
        run=whole.run,
        classes=whole.classes,
        images=[whole.images[index] for index in indices],
        areas=whole.areas.chosen(indices),
    )


def _demand_same_labels(first: Evaluation, second: Evaluation) -> None:
    if first.classes != second.classes:
        raise UsageError(
            f"{first.title} and {second.title} have different classes ({len(first.classes)} and "
            f"{len(second.classes)}); evaluate both by one label policy"
        )
    wrong = np.argwhere(first.areas.label_area != second.areas.label_area)
    if len(wrong):
        image, index = wrong[0].tolist()
        areas = first.areas.label_area[image, index], second.areas.label_area[image, index]
        raise UsageError(
            f"the labels of {first.title} and {second.title} differ: image {first.images[image]} has {areas[0]} and "
            f"{areas[1]} pixels of {first.classes[index]}; evaluate both on the same labels"
        )


def _class_rows(first: Evaluation, second: Evaluation, differences: list[Difference]) -> list[Row]:
    before, after = first.areas.total(), second.areas.total()
    return [
        {
            "class": name,
            "first_iou_percent": _percent(before.iou[index]),
            "second_iou_percent": _percent(after.iou[index]),
            "difference_percent": _percent(difference.value),
            "low_percent": _percent(difference.interval.low),
            "high_percent": _percent(difference.interval.high),
            "p_value": None if np.isnan(difference.p_value) else difference.p_value,
            "winner": _winner(difference, (first.title, second.title)),
            "pixels": int(before.label_area[index]),
        }
        for index, (name, difference) in enumerate(zip(first.classes, differences, strict=True))
    ]


def _winner(difference: Difference, titles: tuple[str, str]) -> str:
    if difference.interval.low > 0:
        return titles[1]
    return titles[0] if difference.interval.high < 0 else "-"


def _differences(first: Run, second: Run) -> list[str]:
    """What else differs and may be why the figures do."""
    return [
        f"{key} differs: {first.conditions.get(key)} and {second.conditions.get(key)}"
        for key in _TOLD
        if first.conditions.get(key) != second.conditions.get(key)
    ]


def _percent(ratio: float) -> float | None:
    return None if np.isnan(ratio) else 100.0 * float(ratio)
