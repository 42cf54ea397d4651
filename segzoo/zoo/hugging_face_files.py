"""The two small files that say what a model of the Hugging Face Hub is: config.json and preprocessor_config.json."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from segzoo import paths
from segzoo.errors import IntegrityError, NetworkError, UsageError
from segzoo.protocol import IMAGENET_MEAN, IMAGENET_STD

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
Triple = tuple[float, float, float]


def labels(source: str) -> list[str]:
    """The names of the classes, in the order of their indices."""
    config = read(source, "config.json") or {}
    names = config.get("id2label")
    if names is None:
        # transformers writes none where the names are the two that it has by default.
        return [f"LABEL_{index}" for index in range(config.get("num_labels", 2))]
    return [str(names[str(index)]) for index in range(len(names))]


def normalisation(source: str) -> tuple[Triple, Triple, str]:
    """Mean and standard deviation by channel in 0..255, and a sentence that says where they are from.

    Raises:
        UsageError: the pictures must be given in another order of channels.
    """
    config = read(source, "preprocessor_config.json", needed=False)
    if config is None:
        return (
            IMAGENET_MEAN,
            IMAGENET_STD,
            "assumed: ImageNet's mean and deviation (no preprocessor_config.json)",
        )
    if config.get("do_flip_channel_order"):
        raise UsageError(f"{source} wants its pictures in the order blue, green, red, which no protocol here gives")
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    if not config.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1 / factor,) * 3, "normalisation: none but the scale, by preprocessor_config.json"
    mean, std = config.get("image_mean", [0.485, 0.456, 0.406]), config.get("image_std", [0.229, 0.224, 0.225])
    return _triple(mean, factor), _triple(std, factor), "normalisation: that of preprocessor_config.json"


@functools.cache
def read(source: str, name: str, needed: bool = True) -> dict[str, Any] | None:
    """The content of a file of a folder or of the Hub; None where it is not there and not needed.

    Raises:
        UsageError: neither a folder nor a name of the Hub.
        IntegrityError: the file is missing or damaged.
        NetworkError: the Hub does not answer, or may not be asked.
    """
    folder = Path(source).expanduser()
    path = folder / name if folder.is_dir() else _from_hub(source, name, needed)
    if path is None or not path.is_file():
        if needed:
            raise IntegrityError(f"{folder} has no {name}; give a folder that save_pretrained wrote")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} is no object of JSON")
    return content


def _from_hub(source: str, name: str, needed: bool) -> Path | None:
    if not _HUB_NAME.fullmatch(source):
        raise UsageError(f"there is no folder {source}, and it is no name of the Hugging Face Hub (OWNER/NAME)")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    try:
        return Path(hf_hub_download(source, name, local_files_only=paths.offline()))
    except LocalEntryNotFoundError as error:
        if not needed:
            return None
        why = "the network is switched off (--offline)" if paths.offline() else "the Hub does not answer"
        raise NetworkError(f"{source} is no folder and not in the cache of the Hugging Face Hub, and {why}") from error
    except EntryNotFoundError as error:
        if needed:
            raise IntegrityError(f"{source} of the Hugging Face Hub has no {name}") from error
        return None
    except Exception as error:
        # Whatever client the Hub's library uses, all that it raises means that the file cannot be had.
        raise NetworkError(f"cannot get {name} of {source}: {str(error).strip().splitlines()[0]}") from error


def _triple(values: Any, factor: float) -> Triple:
    numbers = [values] * 3 if isinstance(values, int | float) else values
    # 0.485 of 255 is 123.675, and no digit more.
    first, second, third = (round(float(value) / factor, 6) for value in numbers)
    return first, second, third
