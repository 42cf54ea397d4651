"""A folder of one's own as a data set: images/, labels/, classes.txt and, for more than that, dataset.yaml."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from segzoo.data.files import Files
from segzoo.errors import DatasetError
from segzoo.zoo import schema

CLASSES_FILE = "classes.txt"
SETTINGS_FILE = "dataset.yaml"
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_COLOUR_AT_END = re.compile(r"\s+(\d{1,3})[ ,]+(\d{1,3})[ ,]+(\d{1,3})$")


def own_entry(files: Files, split: str) -> schema.Dataset:
    """What a folder of one's own says of itself, as an entry of the manifest.

    Args:
        files: the folder or archive.
        split: taken for the only one where the images lie in no folders of splits.

    Raises:
        DatasetError: classes.txt or dataset.yaml is missing, empty or wrong.
    """
    settings = _settings(files)
    if "classes" not in settings:
        settings["classes"], palette = _classes(files)
        if palette is not None:
            settings.setdefault("palette", palette)
    settings.setdefault("splits", _splits(files, split))
    settings.setdefault("image_suffixes", _IMAGE_SUFFIXES)
    try:
        entry = msgspec.convert(settings, schema.Dataset)
    except (msgspec.ValidationError, ValueError) as error:
        raise DatasetError(f"{files.where(SETTINGS_FILE)}: {error}") from error
    if entry.palette is not None and len(entry.palette) != len(entry.classes):
        raise DatasetError(
            f"{files.place}: {len(entry.palette)} colours for {len(entry.classes)} classes; give each class one"
        )
    return entry


def _settings(files: Files) -> dict[str, Any]:
    """The words of dataset.yaml, which are those of a data set in zoo.yaml; none without the file."""
    if not files.has_file(SETTINGS_FILE):
        return {}
    try:
        settings = yaml.safe_load(files.read(SETTINGS_FILE))
    except yaml.YAMLError as error:
        raise DatasetError(f"{files.where(SETTINGS_FILE)} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise DatasetError(f"{files.where(SETTINGS_FILE)}: it maps words such as labels and splits to their values")
    return settings


def _splits(files: Files, split: str) -> dict[str, Any]:
    """images/NAME with labels/NAME is a split; without such folders, images/ and labels/ are the one asked for."""
    names = [name for name in files.folders("images") if files.has_folder(f"labels/{name}")]
    loose = any("/" not in name for name in files.below("images")) if files.has_folder("images") else True
    if not names or (loose and split not in names):
        return {split: {"images": "images", "labels": "labels"}}
    return {name: {"images": f"images/{name}", "labels": f"labels/{name}"} for name in names}


def _classes(files: Files) -> tuple[list[str], list[tuple[int, ...]] | None]:
    """(names, their colours or None) in the lines of classes.txt that are not empty.

    Raises:
        DatasetError: it cannot be read, is empty, or gives only some classes a colour.
    """
    where = files.where(CLASSES_FILE)
    try:
        lines = files.read(CLASSES_FILE).decode("utf-8").splitlines()
    except (DatasetError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"cannot read {where} ({error}); a folder that is used as a data set needs images/, labels/ and "
            f"{CLASSES_FILE} with a class name a line"
        ) from error
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise DatasetError(f"{where} is empty; write a class name a line, the first for label value 0")
    colours = [_COLOUR_AT_END.search(word) for word in words]
    if not any(colours):
        return words, None
    if missing := [word for word, colour in zip(words, colours, strict=True) if colour is None]:
        raise DatasetError(f"{where}: {missing[0]!r} has no colour, others have one; write NAME RED GREEN BLUE")
    found = [colour for colour in colours if colour is not None]
    names = [word[: colour.start()] for word, colour in zip(words, found, strict=True)]
    palette = [tuple(int(value) for value in colour.groups()) for colour in found]
    if wrong := next((name for name, colour in zip(names, palette, strict=True) if max(colour) > 255), None):
        raise DatasetError(f"{where}: the colour of {wrong!r} goes beyond 255")
    return names, palette
