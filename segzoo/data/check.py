"""The doctor of data sets: reads every pair, counts classes and values, and lists all that is wrong or suspicious."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from segzoo.data.ahead import in_order
from segzoo.data.dataset import Dataset
from segzoo.data.files import Files
from segzoo.data.folders import FoldersDataset, colour_table
from segzoo.data.listing import Listing, list_split, some
from segzoo.data.off_by_one import suspicions
from segzoo.data.policy import LabelTable
from segzoo.data.scan import PairFacts, scan_drawn, scan_files
from segzoo.data.scenes import ScenesDataset
from segzoo.data.subject import Subject
from segzoo.errors import DatasetError
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.zoo import schema

Progress = Callable[[Iterable[PairFacts], int], Iterable[PairFacts]]
_ROWS_OF_A_KIND = 20
_MOST_THREADS = 8


@dataclass(kw_only=True)
class Findings:
    """What a check gathers over the pairs of a split.

    Attributes:
        split: which part this is.
        problems: rows "split", "kind", "image", "problem" of what an evaluation would stop at or get wrong.
        warnings: the same for what is odd.
        pixels: of every value of the label files.
        labels: the labels that have each value.
        seen: split and name of the first image with some bytes, over all splits.
    """

    split: str
    problems: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    pixels: Counter[int] = field(default_factory=Counter)
    labels: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def problem(self, kind: str, text: str, image: str = "") -> None:
        """Adds a problem."""
        self.problems.append({"split": self.split, "kind": kind, "image": image, "problem": text})

    def warning(self, kind: str, text: str, image: str = "") -> None:
        """Adds a warning."""
        self.warnings.append({"split": self.split, "kind": kind, "image": image, "warning": text})

    def take(self, facts: PairFacts) -> None:
        """Adds what was found out about a pair."""
        for kind, text in facts.faults:
            self.problem(kind, text, facts.name)
        self.pixels.update(facts.values)
        for value in facts.values:
            self.labels[value].append(facts.name)
        if facts.image_digest is None:
            return
        first = self.seen.setdefault(facts.image_digest, (self.split, facts.name))
        if first != (self.split, facts.name):
            self.warning("duplicate", f"the picture has the bytes of {first[1]} ({first[0]})", facts.name)


def check_subject(
    subject: Subject,
    *,
    limit: int | None = None,
    workers: int | None = None,
    part_is_meant: bool = False,
    progress: Progress | None = None,
) -> list[Run]:
    """A record of every split of a data set; see `check_split`. One thread a core reads where `workers` is None."""
    threads = min(os.cpu_count() or 1, _MOST_THREADS) if workers is None else workers
    seen: dict[bytes, tuple[str, str]] = {}
    runs = []
    for split in subject.splits:
        if subject.files is None:
            runs.append(check_drawn(ScenesDataset(split), subject.entry, limit=limit, progress=progress))
            continue
        runs.append(
            check_split(
                subject.name,
                subject.entry,
                subject.files,
                split,
                limit=limit,
                workers=threads,
                part_is_meant=part_is_meant,
                seen=seen,
                progress=progress,
            )
        )
    return runs


def check_split(
    name: str,
    entry: schema.Dataset,
    files: Files,
    split: str,
    *,
    limit: int | None = None,
    workers: int = 1,
    part_is_meant: bool = False,
    seen: dict[bytes, tuple[str, str]] | None = None,
    progress: Progress | None = None,
) -> Run:
    """A record of one split of a data set in folders or an archive: what is there and all that is wrong with it.

    Args:
        name: of the data set.
        entry: its words, with the folders that are in use.
        files: where its files are.
        split: which part.
        limit: read only the first pairs; the record is then partial.
        workers: threads that read.
        part_is_meant: fewer pairs than were published are no problem.
        seen: images of splits that were checked before, to find duplicates; this one's are added.
        progress: wraps the pairs, given with their number, to show how far it is.
    """
    watch, found = Stopwatch(), Findings(split=split, seen={} if seen is None else seen)
    table, colours = LabelTable(entry.labels, len(entry.classes)), colour_table(entry)
    try:
        listing = list_split(files, entry.splits[split], entry, f"{name} {split}")
    except DatasetError as error:
        found.problem("folder", str(error))
        listing = Listing(title=f"{name} {split}", images_folder="", labels_folder="", image_suffixes=())
    else:
        _check_listing(listing, entry.splits[split], found, part_is_meant=part_is_meant)
    chosen = listing.pairs[:limit]
    scan = partial(scan_files, files, table=table, colours=colours)
    pairs: Iterable[PairFacts] = in_order(scan, chosen, workers)
    for facts in pairs if progress is None else progress(pairs, len(chosen)):
        found.take(facts)
    for sentence, harmful in suspicions(found.labels, entry):
        (found.problem if harmful else found.warning)("label policy", sentence)
    fingerprint = None if found.problems else FoldersDataset(name, split, files, entry).fingerprint()
    values = {value: table.index(value) if colours is None else value for value in found.pixels}
    whole = len(listing.pairs)
    notes = [] if len(chosen) == whole else [f"partial: the first {len(chosen)} of {whole} images"]
    published = entry.splits[split].count
    if part_is_meant and published is not None and published != whole:
        notes.append(f"partial: {whole} pairs are here, published are {published}")
    where = {"split": split, "root": files.place, "published": published, "data_fingerprint": fingerprint}
    return _record(name, entry, where, found, values, len(chosen), notes, watch)


def check_drawn(
    dataset: Dataset, entry: schema.Dataset, *, limit: int | None = None, progress: Progress | None = None
) -> Run:
    """A record of a split that segzoo draws."""
    watch, found = Stopwatch(), Findings(split=dataset.split)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    pairs: Iterable[PairFacts] = (scan_drawn(dataset, index) for index in range(count))
    for facts in pairs if progress is None else progress(pairs, count):
        found.take(facts)
    notes = [] if count == len(dataset) else [f"partial: the first {count} of {len(dataset)} images"]
    where = {"split": dataset.split, "data_fingerprint": dataset.fingerprint()}
    return _record(dataset.name, entry, where, found, {value: value for value in found.pixels}, count, notes, watch)


def raise_problems(runs: list[Run]) -> None:
    """Ends a check with the first problem it found.

    Raises:
        DatasetError: there is one.
    """
    problems = [row["problem"] for run in runs for row in run.breakdown["problem"]]
    count = sum(int(run.metrics["problems"] or 0) for run in runs)
    if problems:
        raise DatasetError(problems[0] + (f" (and {count - 1} more, listed above)" if count > 1 else ""))


def _check_listing(listing: Listing, split: schema.Split, found: Findings, *, part_is_meant: bool) -> None:
    for sentence in listing.problems(absent_allowed=split.count is not None):
        found.problem("pairs", sentence)
    here, published = len(listing.pairs), (split.count, *split.other_counts)
    if split.count is None or here in published or (part_is_meant and here < split.count) or not here:
        return
    absent = f"; of the list of names are absent: {some(listing.absent)}" if listing.absent else ""
    found.problem(
        "count",
        f"{listing.title}: {here} pairs are here, published are {split.count}{absent}; for a part of it say --partial",
    )


def _record(
    name: str,
    entry: schema.Dataset,
    where: dict[str, Any],
    found: Findings,
    values: dict[int, int | None],
    count: int,
    notes: list[str],
    watch: Stopwatch,
) -> Run:
    """`values`: the class index of every value of the files, None for one that is ignored or not known."""
    pixels, images = Counter[int](), Counter[int]()
    for value, index in values.items():
        if index is not None and index < len(entry.classes):
            pixels[index] += found.pixels[value]
            images[index] += len(found.labels[value])
    return Run(
        command="data check",
        model={"name": name},
        metrics={
            "images": count,
            "problems": len(found.problems),
            "warnings": len(found.warnings),
            "pixels": pixels.total(),
            "ignored_pixels": found.pixels.total() - pixels.total(),
            "classes_present": len(pixels),
        },
        conditions={"classes": len(entry.classes), **where},
        breakdown={
            "class": [
                {"class": word, "pixels": pixels[index], "images": images[index]}
                for index, word in enumerate(entry.classes)
            ],
            "value": [
                {"value": value, "pixels": found.pixels[value], "images": len(found.labels[value])}
                for value in sorted(found.pixels)
            ],
            "problem": _folded(found.problems, "problem"),
            "warning": _folded(found.warnings, "warning"),
        },
        notes=notes,
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="partial" if notes else "ok",
    )


def _folded(rows: list[dict[str, Any]], word: str) -> list[dict[str, Any]]:
    """The first rows of every kind, and one that names the images of the others."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row)
    shown = []
    for of_kind in kinds.values():
        shown += of_kind[:_ROWS_OF_A_KIND]
        if rest := of_kind[_ROWS_OF_A_KIND:]:
            names = [row["image"] for row in rest]
            shown.append({**rest[0], "image": "", word: f"{len(rest)} more: {', '.join(names)}"})
    return shown
