"""An mmsegmentation config as entries of a manifest: model, protocol and recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from segzoo.errors import UsageError
from segzoo.protocol import Protocol
from segzoo.zoo.mmseg_architecture import SEGMENTORS, architecture
from segzoo.zoo.mmseg_config import read_config
from segzoo.zoo.mmseg_recipe import find_steps, recipe
from segzoo.zoo.schema import Model, Recipe

_ALIGNED = ("AlignResize", "AlignedResize")
_DATASETS = {
    "ADE20KDataset": "ade20k",
    "CityscapesDataset": "cityscapes",
    "PascalVOCDataset": "voc2012",
    "PascalContextDataset": "pascal-context-60",
    "PascalContextDataset59": "pascal-context-59",
}


def import_config(path: Path, *, name: str | None = None, gpus: int = 8) -> dict[str, dict[str, Any]]:
    """The manifest sections that a config file amounts to, checked against the manifest's types.

    Args:
        path: the config file; it is read, never executed.
        name: of the entry; the file's stem where None.
        gpus: number of devices that the config's images per device are for.

    Raises:
        UsageError: a config that cannot be read, or says what the zoo does not have.
    """
    config = read_config(path)
    name = name or path.stem
    if "model" not in config:
        raise UsageError(f"{path}: no model in it")
    try:
        model = _model(config, name)
        sections: dict[str, dict[str, Any]] = {
            "protocols": {name: _protocol(config)},
            "recipes": {name: recipe(config, gpus)},
            "models": {name: model},
        }
        _check(sections, name)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{path}: not laid out as mmsegmentation's configs are: {error!r}") from error
    return sections


def as_yaml(sections: Mapping[str, Any]) -> str:
    """The sections as the text of a manifest."""
    return yaml.safe_dump(msgspec.to_builtins(sections), sort_keys=False, default_flow_style=None, width=100)


def _model(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    model = config["model"]
    parts = architecture(model)
    if "segmentor" in parts:
        parts["segmentor"].update(_input_size(config))
        classes = config["test_cfg"]["num_classes"]
    else:
        classes = model["decode_head"].get("num_classes")
    return {
        "architecture": parts,
        "dataset": _dataset(config),
        "num_classes": classes,
        "protocol": name,
        "recipe": name,
    }


def _input_size(config: Mapping[str, Any]) -> dict[str, int]:
    """The side of UN-EPT's input, which its number of queries has to match."""
    height, width = config["test_cfg"]["crop_size"]
    queries = config["test_cfg"].get("num_queries", (height // 8) * (width // 8))
    if height != width or height % 8 or queries != (height // 8) ** 2:
        raise UsageError(
            f"UN_EPT: {queries} queries are not one for each 8x8 pixels of a square {height}x{width} window"
        )
    return {"image_size": height}


def _dataset(config: Mapping[str, Any]) -> str:
    kind = config.get("dataset_type")
    if kind not in _DATASETS:
        raise UsageError(f"no data set of the zoo for {kind!r}; it has {', '.join(_DATASETS)}")
    return _DATASETS[kind]


def _protocol(config: Mapping[str, Any]) -> dict[str, Any]:
    test = config.get("data", {}).get("test", {})
    steps = test.get("pipeline") or config.get("test_pipeline")
    if not steps:
        raise UsageError("no test pipeline in the config")
    outer = find_steps(steps, "MultiScaleFlipAug")
    inner = outer[0]["transforms"] if outer else steps
    protocol: dict[str, Any] = {**_mode(config), **_resize(inner, outer[0] if outer else None)}
    for step in [*find_steps(inner, "Normalize"), *filter(None, [config.get("data_preprocessor")])]:
        protocol.update({key: list(step[key]) for key in ("mean", "std") if key in step})
    if outer and outer[0].get("flip"):
        protocol["flip"] = True
        protocol["ratios"] = list(outer[0].get("img_ratios") or (1.0,))
    elif outer and outer[0].get("img_ratios"):
        protocol["ratios"] = list(outer[0]["img_ratios"])
    return protocol


def _mode(config: Mapping[str, Any]) -> dict[str, Any]:
    given = [config["model"].get("test_cfg"), config.get("test_cfg")]
    test = next((words for words in given if words and "mode" in words), {"mode": "whole"})
    if test["mode"] == "whole":
        return {"mode": "whole"}
    slide = {"mode": test["mode"], "crop": list(test["crop_size"]), "stride": list(test["stride"])}
    return {**slide, "pad_windows": True} if config["model"].get("type") in SEGMENTORS else slide


def _resize(steps: list[dict[str, Any]], outer: Mapping[str, Any] | None) -> dict[str, Any]:
    resizes = find_steps(steps, "Resize", *_ALIGNED)
    if not resizes:
        return {"scale": None}
    step = resizes[0]
    if step.get("keep_ratio", True) is False:
        raise UsageError("a test resize that does not keep the ratio is not known here")
    scale = (outer or {}).get("img_scale") or step.get("img_scale") or step.get("scale")
    if isinstance(scale, list) and scale and isinstance(scale[0], (list, tuple)):
        if len(scale) > 1:
            raise UsageError(f"several test scales are given as ratios here, not as {scale}")
        scale = scale[0]
    result: dict[str, Any] = {"scale": list(scale) if scale else None}
    if step["type"] in _ALIGNED:
        result["size_divisor"] = step.get("size_divisor", 32)
    return result


def _check(sections: dict[str, dict[str, Any]], name: str) -> None:
    """Holds the result to the manifest's own types, so that what is printed can be loaded."""
    for section, kind in (("protocols", Protocol), ("recipes", Recipe), ("models", Model)):
        try:
            msgspec.convert(msgspec.to_builtins(sections[section][name]), kind)
        except msgspec.ValidationError as error:
            raise UsageError(f"{section}.{name}: {error}") from error
