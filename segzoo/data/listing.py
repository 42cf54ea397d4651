"""Which images and labels a split has: pairs by name, and all that has no partner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from segzoo.data.files import Files
from segzoo.errors import DatasetError
from segzoo.zoo import schema

_NAMES_SHOWN = 3


class PairOfFiles(NamedTuple):
    """A pair's name and its two files, relative to the data set's root."""

    name: str
    image: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of one split.

    Attributes:
        title: data set and split, for messages.
        pairs: sorted by name.
        images_alone, labels_alone: names without a partner, sorted.
        twins: two images or two labels of one name.
        absent: names of the split's list that have neither image nor label.
        listed: the number of names in the split's list; None without a list.
    """

    title: str
    images_folder: str
    labels_folder: str
    image_suffixes: tuple[str, ...]
    names_file: str | None = None
    pairs: list[PairOfFiles] = field(default_factory=list)
    images_alone: list[str] = field(default_factory=list)
    labels_alone: list[str] = field(default_factory=list)
    twins: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    listed: int | None = None

    def problems(self, *, absent_allowed: bool = False) -> list[str]:
        """All that keeps the split from being used, a sentence each.

        Args:
            absent_allowed: names of the list without any file are no problem, as long as some have files.
        """
        found = [f"{self.title}: {one} and {other} are two files of one name; keep one" for one, other in self.twins]
        # With nothing there, that is the message, and not a name for each that is missing.
        if self.absent and (not absent_allowed or not (self.pairs or self.images_alone or self.labels_alone)):
            found.append(
                f"{self.title}: {len(self.absent)} names of {self.names_file} have no image: {some(self.absent)}"
            )
        elif not self.pairs and not self.images_alone:
            endings = ", ".join(self.image_suffixes)
            found.append(f"{self.title} is empty: no image ({endings}) in {self.images_folder}")
        for names, kind, other, folder in (
            (self.images_alone, "image", "label", self.labels_folder),
            (self.labels_alone, "label", "image", self.images_folder),
        ):
            if names:
                found.append(
                    f"{self.title}: {len(names)} {kind}s have no {other} in {folder}: {some(names)}; "
                    "every image needs the label of its name, and every label its image"
                )
        return found


def list_split(files: Files, split: schema.Split, entry: schema.Dataset, title: str) -> Listing:
    """Lists and pairs the files of a split; none is opened but its list of names.

    Raises:
        DatasetError: a folder or the list of names is missing.
    """
    if split.labels is None:
        raise DatasetError(f"{title} has no labels: the manifest names no folder of labels for this split")
    twins: list[tuple[str, str]] = []
    images = _files(files, split.images, entry.image_suffixes, (), title, twins)
    labels = _files(files, split.labels, (entry.label_suffix,), entry.other_suffixes, title, twins)
    absent: list[str] = []
    listed = None
    if split.names is not None:
        words = _words(files, split.names, title)
        listed = len(words)
        images, labels, absent = _chosen(words, images, labels)
    return Listing(
        title=title,
        images_folder=files.where(split.images),
        labels_folder=files.where(split.labels),
        image_suffixes=entry.image_suffixes,
        names_file=None if split.names is None else files.where(split.names),
        pairs=[PairOfFiles(name, images[name], labels[name]) for name in sorted(images.keys() & labels.keys())],
        images_alone=sorted(images.keys() - labels.keys()),
        labels_alone=sorted(labels.keys() - images.keys()),
        twins=twins,
        absent=absent,
        listed=listed,
    )


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _files(
    files: Files,
    folder: str,
    suffixes: Iterable[str],
    others: Iterable[str],
    title: str,
    twins: list[tuple[str, str]],
) -> dict[str, str]:
    """Every file below `folder` that ends in one of `suffixes` and none of `others`, by its name without the ending."""
    if not files.has_folder(folder):
        raise DatasetError(f"{title}: there is no folder {files.where(folder)}")
    wanted, unwanted = (tuple(end.lower() for end in ends) for ends in (suffixes, others))
    found: dict[str, str] = {}
    for path in files.below(folder):
        lower = path.lower()
        suffix = next((end for end in wanted if lower.endswith(end)), None)
        # A leading dot is the file system's own business: macOS adds "._" files beside images.
        if suffix is None or path.rpartition("/")[2].startswith(".") or lower.endswith(unwanted):
            continue
        name, full = path[: -len(suffix)], f"{folder}/{path}"
        if name in found:
            twins.append((files.where(full), files.where(found[name])))
        found.setdefault(name, full)
    return found


def _words(files: Files, file: str, title: str) -> list[str]:
    """The first word of each line of a list of names."""
    try:
        lines = files.read(file).decode("utf-8").splitlines()
    except (DatasetError, UnicodeDecodeError) as error:
        raise DatasetError(f"{title}: cannot read the list of names {files.where(file)}: {error}") from error
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def _chosen(
    words: list[str], images: dict[str, str], labels: dict[str, str]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """(images, labels, words without either) of the names in a list, which may have folders and endings."""
    known = labels | images
    by_last = {name.rpartition("/")[2]: name for name in known}
    chosen = {word: _match(word, known, by_last) for word in words}
    names = [name for name in chosen.values() if name is not None]
    absent = [word for word, name in chosen.items() if name is None]
    return (
        {name: images[name] for name in names if name in images},
        {name: labels[name] for name in names if name in labels},
        absent,
    )


def _match(word: str, known: dict[str, str], by_last: dict[str, str]) -> str | None:
    if word in known:
        return word
    last = word.rpartition("/")[2]
    return by_last.get(last) or by_last.get(last.rpartition(".")[0])
