"""An entry of the zoo as a Run of published figures, as JSON and as a page of text."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from segzoo.registry import entry, get_protocol
from segzoo.results import Run
from segzoo.zoo.manifest import load_manifest


def published_run(name: str) -> Run:
    """The published figures of a model as a record; nothing is measured."""
    model = entry(name)
    published = model.published
    operations = published.operations if published else None
    macs = operations.value / (2 if operations.unit == "flops" else 1) if operations else None
    return Run(
        command="list",
        model={"name": name},
        metrics={
            "params_published": published.params if published else None,
            "macs_published": macs,
            "miou_percent_published": published.miou if published else None,
            "miou_ms_percent_published": published.miou_ms if published else None,
        },
        conditions={
            "dataset": model.dataset,
            "num_classes": model.num_classes,
            "protocol": model.protocol,
            "macs_shape": "x".join(map(str, operations.shape)) if operations else None,
            "weights": _weights_word(model.weights),
            "licence": model.licence,
            "source": published.source if published else None,
        },
    )


def as_json(name: str) -> str:
    """The entry with its protocol, recipe and data set spelled out, as JSON."""
    return msgspec.json.format(msgspec.json.encode(_whole(name)), indent=2).decode()


def as_text(name: str) -> str:
    """The entry with its protocol and recipe spelled out, as a page that reads like the manifest."""
    whole = _whole(name)
    whole["dataset"] = {
        key: value for key, value in whole["dataset"].items() if key not in ("classes", "palette", "splits")
    }
    blocks = []
    for title, content in whole.items():
        # Lists of numbers in one line, texts and mirrors one a line.
        flow = False if title in ("notes", "weights") else None
        body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100, default_flow_style=flow)
        if isinstance(content, (dict, list)) and content:
            body = "\n" + "\n".join("  " + line for line in body.rstrip("\n").split("\n"))
            blocks.append(f"{title}:{body}")
        else:
            text = body.strip().removesuffix("...").strip()
            blocks.append(f"{title}: {text}")
    return "\n".join(blocks)


def _whole(name: str) -> dict[str, Any]:
    manifest = load_manifest()
    model = entry(name)
    parts: dict[str, Any] = {"name": name}
    parts["architecture"] = model.architecture
    parts["num_classes"] = model.num_classes
    parts["dataset"] = {"name": model.dataset, **msgspec.to_builtins(manifest.datasets.get(model.dataset, {}))}
    parts["protocol"] = {"name": model.protocol, **msgspec.to_builtins(get_protocol(name))}
    if model.recipe:
        parts["recipe"] = {"name": model.recipe, **msgspec.to_builtins(manifest.recipes[model.recipe])}
    parts["weights"] = model.weights
    parts["published"] = model.published
    parts["licence"] = model.licence
    parts["notes"] = model.notes
    return _without_empty(msgspec.to_builtins(parts))


def _without_empty(value: Any) -> Any:
    """Leaves out None and empty containers, which say nothing."""
    if isinstance(value, dict):
        pruned = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item is not None and item != {} and item != []}
    if isinstance(value, (list, tuple)):
        return [_without_empty(item) for item in value]
    return value


def _weights_word(weights: list) -> str:
    parts = [weight for weight in weights if weight.part == "model"]
    if not parts:
        return "-"
    return "embedded" if parts[0].url[0].startswith("embedded:") else "download"
