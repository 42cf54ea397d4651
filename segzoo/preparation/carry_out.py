"""Carries out a plan: downloads, checks, unpacks, converts, counts; returns a record."""

from __future__ import annotations

import datetime
import importlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from segzoo import __version__
from segzoo.data.archive import ArchiveFiles, open_archive
from segzoo.errors import DatasetError, SegzooError
from segzoo.preparation.obtain import obtain
from segzoo.preparation.plan import Plan, count_pairs
from segzoo.preparation.state import State, read_state, write_state
from segzoo.preparation.unpack import Progress, missing_bytes, unpack
from segzoo.results import Run, Stopwatch, command_line, environment

_SPARE_BYTES = 100_000_000


def prepare(plan: Plan, *, progress: Progress | None = None, quiet: bool = False) -> Run:
    """A record of a data set that is ready in its folder; what is done already is not done again.

    Interrupted, it continues with the same call: a download where it stopped, unpacking with the next file.

    Args:
        plan: from `make_plan`.
        progress: wraps the names of files that are worked through.
        quiet: no bar and no words of downloads.

    Raises:
        DatasetError: archives that have to be fetched by hand, or that do not make the published data set.
        NetworkError, IntegrityError: an archive that cannot be had, or another one than was published.
        SegzooError: not enough space, or a folder that cannot be written.
    """
    watch = Stopwatch()
    if not plan.done:
        _refuse_missing(plan)
        _check_space(plan)
        hashes = {part.archive.name: obtain(plan.name, part, progress=not quiet) for part in plan.parts}
        _make(plan, progress or _silent)
        pairs = count_pairs(plan.entry, plan.target, plan.splits)
        _finish(plan, pairs, hashes)
    else:
        pairs = plan.pairs
    return _record(plan, watch, pairs)


def planned(plan: Plan) -> Run:
    """The record of a plan that is not carried out."""
    return _record(plan, Stopwatch(), None)


def _record(plan: Plan, watch: Stopwatch, pairs: dict[str, int] | None) -> Run:
    expected = {split: plan.entry.splits[split].count for split in plan.splits}
    return Run(
        command="data prepare",
        model={"name": plan.name},
        metrics={"pairs": sum((pairs or plan.pairs).values()), "archives": len(plan.parts)},
        conditions={"root": str(plan.target), "splits": list(plan.splits), "licence": plan.entry.licence},
        breakdown={
            "archive": plan.rows(),
            "split": [
                {"split": split, "pairs": (pairs or plan.pairs).get(split), "published": expected[split]}
                for split in plan.splits
            ],
        },
        notes=["planned only: nothing was written"] if pairs is None else [],
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
        status="planned" if pairs is None else "ok",
    )


def _refuse_missing(plan: Plan) -> None:
    if missing := plan.by("by hand"):
        files = ", ".join(part.archive.name for part in missing)
        pages = ", ".join(str(part.archive.page or plan.entry.source) for part in missing)
        raise DatasetError(
            f"{plan.name} is given only to people who have registered: fetch {files} ({pages}) into "
            f"{missing[0].path.parent} and give this command again"
        )


def _check_space(plan: Plan) -> None:
    """Downloads and unpacked files must fit, as far as their sizes are known; on one disk both together."""
    coming = sum(part.archive.bytes or 0 for part in plan.by("download"))
    there = sum(path.stat().st_size for path in plan.target.rglob("*") if path.is_file())
    unpacked = max(0, sum(part.archive.unpacked_bytes or 0 for part in plan.parts) - there)
    downloads, target = _existing(plan.parts[0].path.parent), _existing(plan.target)
    if downloads.stat().st_dev == target.stat().st_dev:
        _check_free(target, coming + unpacked)
    else:
        _check_free(downloads, coming)
        _check_free(target, unpacked)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _check_free(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed + _SPARE_BYTES > free:
        raise SegzooError(
            f"not enough space in {place}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB free; make "
            "room, or choose another disk with --root and --archives"
        )


def _make(plan: Plan, progress: Progress) -> None:
    """Unpacks and converts."""
    archives: dict[str, ArchiveFiles] = {}
    for part in plan.parts:
        files = open_archive(part.path, unpack_in=part.path.parent)
        _check_free(_existing(plan.target), missing_bytes(files, part.archive.take, plan.target))
        unpack(files, part.archive.take, plan.target, progress)
        archives[part.archive.name] = files
    if plan.entry.convert is not None:
        step = importlib.import_module(f"segzoo.preparation.{plan.entry.convert}")
        step.convert(archives, plan.target, plan.splits, progress)


def _finish(plan: Plan, pairs: dict[str, int], hashes: dict[str, str]) -> None:
    """Holds the result to the published numbers and leaves the state."""
    for split in plan.splits:
        published = plan.entry.splits[split].count
        if split not in pairs:
            raise DatasetError(
                f"{plan.name} {split}: {plan.target} does not hold pairs of images and labels after all archives were "
                f"unpacked; `segzoo data check {plan.target} --dataset {plan.name}` says what is missing"
            )
        if published is not None and pairs[split] not in (published, *plan.entry.splits[split].other_counts):
            raise DatasetError(
                f"{plan.name} {split}: {pairs[split]} pairs came out, published are {published}; an archive is not the "
                "published one or not whole"
            )
    now = datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds")
    earlier = read_state(plan.target)
    known = earlier.pairs if earlier is not None and earlier.dataset == plan.name else {}
    state = State(dataset=plan.name, pairs=known | pairs, archives=hashes, date=now, version=__version__)
    write_state(plan.target, state)


def _silent(names: Iterable[str], count: int, what: str) -> Iterable[str]:
    return names
