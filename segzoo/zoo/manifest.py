"""Reads zoo.yaml and the user's manifests into typed entries; a bad one names file, entry and field."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import yaml

from segzoo import paths
from segzoo.errors import UsageError, suggestion
from segzoo.protocol import Protocol
from segzoo.zoo.schema import Dataset, Manifest, Model, Recipe

_SECTIONS: dict[str, type] = {
    "datasets": Dataset,
    "protocols": Protocol,
    "recipes": Recipe,
    "models": Model,
}


def load_manifest() -> Manifest:
    """The built-in manifest with the user's (SEGZOO_ZOO, --zoo) added; a user's entry wins over a built-in one.

    Raises:
        UsageError: a file that cannot be read, an unknown key, a wrong type or a dangling name.
    """
    return _load((paths.zoo_file(), *paths.user_zoo_files()))


@functools.cache
def _load(files: tuple[Path, ...]) -> Manifest:
    merged: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    origin: dict[tuple[str, str], Path] = {}
    for file in files:
        for section, entries in _read_sections(file).items():
            for name, raw in entries.items():
                merged[section][name] = _typed(raw, _SECTIONS[section], f"{file}: {section}.{name}")
                origin[section, name] = file
    manifest = Manifest(**merged)
    _check_names(manifest, origin)
    return manifest


def _read_sections(file: Path) -> dict[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the manifest {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the manifest {file} is no text in UTF-8 (byte {error.start})") from error
    try:
        raw = yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{file}: a manifest is a mapping with the sections {', '.join(_SECTIONS)}")
    for section, entries in raw.items():
        if section not in _SECTIONS:
            raise UsageError(f"{file}: unknown section {section!r}{suggestion(str(section), _SECTIONS)}")
        if not isinstance(entries, dict):
            raise UsageError(f"{file}: {section} maps names to entries, not {type(entries).__name__}")
    return raw


def _typed(raw: Any, kind: type, where: str) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except (msgspec.ValidationError, ValueError) as error:
        message, _, location = str(error).partition(" - at `$")
        field = location.rstrip("`")
        raise UsageError(f"{where}{field}: {message}{_field_hint(message, kind)}") from error


def _field_hint(message: str, kind: type) -> str:
    if "unknown field `" not in message:
        return ""
    word = message.split("unknown field `")[1].rstrip("`")
    return suggestion(word, [field.name for field in msgspec.inspect.type_info(kind).fields])  # type: ignore[attr-defined]


def _check_names(manifest: Manifest, origin: dict[tuple[str, str], Path]) -> None:
    for name, model in manifest.models.items():
        where = f"{origin['models', name]}: models.{name}"
        for field, known in (
            ("dataset", manifest.datasets),
            ("protocol", manifest.protocols),
            ("recipe", manifest.recipes),
        ):
            target = getattr(model, field)
            if target is not None and target not in known:
                raise UsageError(f"{where}.{field}: no such {field}: {target!r}{suggestion(target, known)}")
    for name, dataset in manifest.datasets.items():
        if dataset.palette is not None and len(dataset.palette) != len(dataset.classes):
            raise UsageError(
                f"{origin['datasets', name]}: datasets.{name}.palette: {len(dataset.palette)} colours "
                f"for {len(dataset.classes)} classes"
            )


def _loader() -> type:
    """The C loader (10 times quicker), refusing a key that stands twice in one mapping."""

    class UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    def construct_mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
        pairs = [(loader.construct_object(key, deep=True), key) for key, _ in node.value]
        seen = set()
        for key, key_node in pairs:
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        loader.flatten_mapping(node)
        return {
            loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
            for key, value in node.value
        }

    UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct_mapping)
    return UniqueKeyLoader
