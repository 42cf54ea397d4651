"""Writes labels as class indices beside the published ones, for other programs; segzoo itself reads those."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segzoo.data.ahead import in_order
from segzoo.data.files import FolderFiles
from segzoo.data.listing import list_split
from segzoo.data.policy import LabelTable
from segzoo.data.read import read_label
from segzoo.data.write import write_indices
from segzoo.errors import UsageError
from segzoo.preparation.plan import Plan
from segzoo.preparation.unpack import Progress

_ENDING = "_labelTrainIds.png"
_WORKERS = 4


def write_train_ids(plan: Plan, progress: Progress) -> int:
    """The number of files written: NAME_labelTrainIds.png beside every label, with 255 where it is ignored.

    The names are those of Cityscapes' scripts and of mmsegmentation's converters. What is there is left alone.

    Raises:
        UsageError: a data set whose labels need no mapping.
        DatasetError: a label that cannot be read or has values outside the policy.
    """
    entry = plan.entry
    if entry.labels.mapping is None:
        raise UsageError(f"the labels of {plan.name} are not mapped to training ids; leave out --train-ids")
    table = LabelTable(entry.labels, len(entry.classes))
    written = 0
    for split in plan.splits:
        pairs = list_split(FolderFiles(plan.target), entry.splits[split], entry, f"{plan.name} {split}").pairs
        paths = [plan.target / pair.label for pair in pairs]
        todo = [path for path in paths if not _target(path).is_file()]

        def convert(path: Path) -> str:
            write_indices(_target(path), table.apply(read_label(path), str(path)))
            return path.name

        names: Iterable[str] = in_order(convert, todo, _WORKERS)
        written += sum(1 for _ in progress(names, len(todo), f"training ids of {split}"))
    return written


def _target(label: Path) -> Path:
    stem = label.name.removesuffix("_labelIds.png").removesuffix(".png")
    return label.with_name(stem + _ENDING)
