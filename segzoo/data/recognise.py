"""What a folder or archive is: a data set, a folder of it too high or too low, or something else of a like name."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from segzoo.data.archive import ArchiveFiles
from segzoo.data.files import Files, FolderFiles
from segzoo.zoo import schema

_LEVELS = 2


def find_layout(
    files: Files, name: str, entry: schema.Dataset, splits: tuple[str, ...] = ()
) -> tuple[Files, schema.Dataset] | None:
    """(files with the data set's folder as their root, entry with the folders that are in use there), or None.

    Looked at are the root itself, the data set's own folder in it and, in an archive, every folder; the place
    with the images of most splits is taken.

    Args:
        files: where to look.
        name: of the data set.
        entry: its words.
        splits: whose images must be there, at least one of them; any where empty.
    """
    best: tuple[int, Files, schema.Dataset] | None = None
    for layout in ({**entry.splits}, *entry.other_layouts):
        wanted = [layout[split].images for split in splits or layout if split in layout]
        for root in _roots(files, wanted, entry.root or name):
            inside = files.inside(root)
            found = sum(inside.has_folder(folder) for folder in wanted)
            if found and (best is None or found > best[0]):
                best = found, inside, msgspec.structs.replace(entry, splits=layout)
    return None if best is None else best[1:]


def recognise(files: Files, datasets: Mapping[str, schema.Dataset]) -> list[str]:
    """The data sets whose images and labels are here, the likeliest first; of equal ones the manifest's order."""
    scores = {}
    for name, entry in datasets.items():
        found = find_layout(files, name, entry) if entry.layout == "folders" and entry.splits else None
        if found is None:
            continue
        inside, used = found
        folders = [folder for split in used.splits.values() for folder in (split.images, split.labels) if folder]
        present = sum(inside.has_folder(folder) for folder in folders) / len(folders)
        lists = [split.names for split in used.splits.values() if split.names]
        present += sum(inside.has_file(file) for file in lists) / max(len(lists), 1)
        # Whatever has no folder of labels is another thing.
        if any(split.labels and inside.has_folder(split.labels) for split in used.splits.values()):
            scores[name] = present
    return sorted(scores, key=lambda name: -scores[name])


def explain(files: Files, name: str, entry: schema.Dataset, datasets: Mapping[str, schema.Dataset]) -> str | None:
    """What is here in place of a data set that was looked for, and what to do, in a sentence; None if unknown."""
    for lookalike in entry.lookalikes:
        for inside in (files, *(files.inside(folder) for folder in files.folders("")[:50])):
            if any(inside.has_file(sign) or inside.has_folder(sign) for sign in lookalike.has):
                return f"{inside.place} looks like {lookalike.what}"
    if isinstance(files, FolderFiles):
        for above in files.root.absolute().parents[:_LEVELS]:
            found = find_layout(FolderFiles(above), name, entry)
            # The data set must lie around the folder, not beside it.
            if found is not None and found[0].place == str(above):
                return f"{files.place} is a folder inside of the data set: give {above}"
    for folder in _below(files, _LEVELS):
        if find_layout(files.inside(folder), name, entry) is not None:
            return f"the data set lies further down: give {files.where(folder)}"
    others = [other for other in recognise(files, datasets) if other != name]
    return f"{files.place} looks like {others[0]}" if others else None


def _roots(files: Files, wanted: list[str], below: str) -> list[str]:
    """Where one of the folders is: at the top, in `below` or its last part, or in any folder of an archive."""
    places = dict.fromkeys(("", below, below.rpartition("/")[2]))
    roots = [root for root in places if any(files.has_folder(_join(root, folder)) for folder in wanted)]
    if roots or not isinstance(files, ArchiveFiles):
        return roots
    return list(dict.fromkeys(root for folder in wanted for root in files.roots_with(folder)))


def _below(files: Files, levels: int) -> list[str]:
    """Folders down to some levels, the higher ones first; of very many only the first ones."""
    found, level = [], [""]
    for _ in range(levels):
        level = [_join(parent, name) for parent in level for name in files.folders(parent)[:50]]
        found += level
    return found


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
