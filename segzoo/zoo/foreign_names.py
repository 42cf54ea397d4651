"""Names of models from elsewhere: hf:FOLDER_OR_ID, smp:ARCHITECTURE[:ENCODER] and MODULE:FUNCTION.

They may stand wherever a name of the zoo may. What they do not say of data set, protocol and normalisation is guessed,
and the guess is told. No torch.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from segzoo.errors import UsageError, suggestion
from segzoo.protocol import Protocol
from segzoo.zoo import hugging_face_files as hugging_face
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.schema import Architecture, Model

HUGGING_FACE, SMP = "hf:", "smp:"
_CALLABLE = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")
# smp's encoders halve the picture five times.
_SMP_DIVISOR = 32


def is_foreign_name(name: str) -> bool:
    """Whether the name speaks of a model from elsewhere."""
    return name.startswith((HUGGING_FACE, SMP)) or _CALLABLE.fullmatch(name) is not None


def chooses_classes(name: str) -> bool:
    """Whether a model from elsewhere has as many classes as it is asked for; the Hub's have their own."""
    return is_foreign_name(name) and not name.startswith(HUGGING_FACE)


def own_class_names(name: str) -> list[str] | None:
    """The classes as a model from elsewhere itself calls them; None where it does not say."""
    return hugging_face.labels(_source(name)) if name.startswith(HUGGING_FACE) else None


def needs_checkpoint(name: str) -> bool:
    """Whether a model from elsewhere comes without trained weights; a function sees to its own."""
    return name.startswith(SMP)


def foreign_entry(name: str) -> Model:
    """The entry of a model from elsewhere: the classes of its own labels, else ADE20K's.

    Raises:
        UsageError: a name that says too little, or no folder and no name of the Hub.
        IntegrityError: a folder whose config.json is missing or damaged.
        NetworkError: the Hub does not answer.
    """
    dataset, classes = "ade20k", len(load_manifest().datasets["ade20k"].classes)
    if name.startswith(HUGGING_FACE):
        labels = hugging_face.labels(_source(name))
        classes, dataset = len(labels), _likely_dataset(labels)[0]
    return Model(
        architecture=Architecture(foreign=_words(name)),
        dataset=dataset,
        num_classes=classes,
        protocol=_usual_protocol(dataset),
        licence="see its source",
    )


def with_foreign_weights(entry: Model) -> Model:
    """The same entry with the weights that its source has, where it is one of weights."""
    words = entry.architecture.foreign or {}
    if words.get("type") != "hugging_face":
        return entry
    return msgspec.structs.replace(entry, architecture=Architecture(foreign={**words, "pretrained": True}))


def protocol_word(name: str, *, chosen: str | None = None, dataset: str | None = None) -> str:
    """The name of the protocol that a model from elsewhere gets; arguments as `foreign_protocol`."""
    return chosen or _usual_protocol(dataset or foreign_entry(name).dataset)


def foreign_protocol(name: str, *, chosen: str | None = None, dataset: str | None = None) -> Protocol:
    """The protocol of a model from elsewhere, with the model's own normalisation.

    Args:
        chosen: a protocol by name; the usual one of the data set where None.
        dataset: another data set than the model's.

    Raises:
        UsageError: no such protocol.
    """
    protocols = load_manifest().protocols
    word = protocol_word(name, chosen=chosen, dataset=dataset)
    if chosen is not None and chosen not in protocols:
        raise UsageError(f"unknown protocol {chosen!r}{suggestion(chosen, protocols)}")
    fields = msgspec.to_builtins(protocols.get(word, Protocol(scale=None)))
    if name.startswith(SMP) and chosen is None:
        fields["size_divisor"] = _SMP_DIVISOR
    if name.startswith(HUGGING_FACE):
        fields["mean"], fields["std"], _ = hugging_face.normalisation(_source(name))
    return Protocol(**fields)


def assumptions(name: str, *, protocol: str | None = None, dataset: str | None = None) -> list[str]:
    """What was guessed of a model from elsewhere, a sentence each; arguments are what was given and not guessed."""
    entry, told = foreign_entry(name), []
    if dataset is None:
        why = "nothing says another"
        if name.startswith(HUGGING_FACE):
            agreeing = _likely_dataset(hugging_face.labels(_source(name)))[1]
            why = f"it has {entry.num_classes} classes too, {agreeing} of them by the same name"
        told.append(f"assumed: data set {entry.dataset} ({why})")
    if protocol is None:
        divisor = f", sides brought up to multiples of {_SMP_DIVISOR}" if name.startswith(SMP) else ""
        told.append(f"assumed: protocol {protocol_word(name, dataset=dataset)}{divisor}")
    if name.startswith(HUGGING_FACE):
        told.append(hugging_face.normalisation(_source(name))[2])
    else:
        told.append("assumed: the protocol's mean and standard deviation of the pictures")
    return told


def _source(name: str) -> str:
    source = name.removeprefix(HUGGING_FACE)
    if not source:
        raise UsageError(f"{name!r}: write hf:FOLDER or hf:OWNER/NAME")
    return source


def _words(name: str) -> dict[str, Any]:
    if name.startswith(HUGGING_FACE):
        return {"type": "hugging_face", "source": _source(name)}
    if name.startswith(SMP):
        architecture, _, encoder = name.removeprefix(SMP).partition(":")
        if not architecture or name.endswith(":"):
            raise UsageError(f"{name!r}: write smp:ARCHITECTURE or smp:ARCHITECTURE:ENCODER, such as smp:unet:resnet34")
        return {"type": "smp", "architecture": architecture, "encoder": encoder or "resnet34"}
    module, _, function = name.rpartition(":")
    return {"type": "function", "module": module, "function": function}


def _likely_dataset(labels: list[str]) -> tuple[str, int]:
    """The data set with as many classes and the most names in common, and their number; "" for none."""
    own = [_plain(label) for label in labels]
    found = ("", -1)
    for dataset, entry in load_manifest().datasets.items():
        if len(entry.classes) == len(own):
            agreeing = sum(_plain(one) == other for one, other in zip(entry.classes, own, strict=True))
            found = max(found, (dataset, agreeing), key=lambda pair: pair[1])
    return found[0], max(found[1], 0)


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.lower().split(",")[0].split(";")[0])


def _usual_protocol(dataset: str) -> str:
    """The first protocol of the manifest that a model of this data set has; "image-size" where there is none."""
    manifest = load_manifest()
    used = {model.protocol for model in manifest.models.values() if model.dataset == dataset}
    return next((name for name in manifest.protocols if name in used), "image-size")
