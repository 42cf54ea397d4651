"""Reads a weights file as tensors and nothing else: torch.load(weights_only=True) or safetensors, chosen by content."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from segzoo.errors import IntegrityError
from segzoo.weights.formats import detect_format

# Where training tools put the state dict, the most wanted first. The averaged weights (EMA) come first, as
# timm, DeiT and ConvNeXt publish numbers measured with them. mmengine's "ema_state_dict" is not among them: its
# hook swaps the two when it saves, so that "state_dict" holds the averaged ones there.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "net")

_NAMED_BY_TORCH = re.compile(r"GLOBAL (\S+?)[, ](?:was not an allowed|whose module)")
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_HARMLESS_MODULES = ("torch", "collections", "_codecs", "numpy", "argparse")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by their keys, on the CPU; memory-mapped where the format allows it.

    Understands files of torch.save (both formats) and safetensors. Of a training checkpoint it returns the first of
    `WRAPPERS` that is there; what lies beside (mmcv's "meta", an optimiser's state) is dropped.

    Raises:
        IntegrityError: absent, truncated or corrupt, without tensors, or in need of code: that is never run.
    """
    path = Path(path)
    content = _load(path)
    state = _unwrap(content, path)
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(repr(str(key)) for key in list(state)[:8]) or "nothing"
        raise IntegrityError(f"{path} has no weights in it: it holds {found}, none of them a tensor")
    return tensors


def _load(path: Path) -> Any:
    kind = detect_format(path)
    try:
        if kind == "safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_plain_data()), warnings.catch_warnings():
            # torch warns of a pickle's protocol and of its own old storages; neither concerns the reader.
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":
                # For a path, recent torch decides by this suffix; for an open file, by what is in it.
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a valid safetensors file: {error}") from error
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except Exception as error:
        # A damaged pickle can make the reader stumble in any way at all.
        raise _refusal(path, f"{type(error).__name__}: {error}") from error


def _refusal(path: Path, reason: str) -> IntegrityError:
    if code := _code(path, reason):
        return IntegrityError(
            f"{path} contains code ({', '.join(code[:3])}) and was not loaded; if you trust where it comes from, "
            "save its state dict alone, as safetensors, with the program that wrote it"
        )
    if "TorchScript" in reason:
        return IntegrityError(f"{path} is a TorchScript program and was not loaded; a state dict is needed")
    return IntegrityError(f"{path} is corrupt or truncated: {' '.join(reason.split())[:200]}")


def _code(path: Path, reason: str) -> list[str]:
    """The functions or classes because of which the file was refused; empty for a file that is only damaged."""
    names = _globals(path)
    named = _NAMED_BY_TORCH.search(reason)
    if named is None:
        return [name for name in names if name.partition(".")[0] not in _HARMLESS_MODULES]
    # The name torch saw may be cut off by the end of a truncated file; then it is in no complete instruction.
    return [name for name in names if name.rpartition(".")[2] == named[1].rpartition(".")[2]]


def _unwrap(content: Any, path: Path) -> Mapping[Any, Any]:
    """The mapping with the tensors: the content itself or what lies under a wrapper key, as deep as they go."""
    if isinstance(content, Tensor) or not isinstance(content, Mapping):
        raise IntegrityError(f"{path} holds a {type(content).__name__}, not a state dict")
    for wrapper in WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, Mapping) and inner:
            return _unwrap(inner, path)
    return content


def _plain_data() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What checkpoints carry beside tensors and cannot do harm: numpy's numbers, settings as a namespace.

    An object of numpy's "O" type is not among them. Classes that are dictionaries with dots for brackets become
    plain dictionaries: their own packages need not be installed.
    """
    rebuild_scalar, rebuild_array = np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0]
    plain: list[Any] = [argparse.Namespace, np.ndarray, np.dtype]
    plain += {type(np.dtype(code)) for code in "?SU" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        plain += [(rebuild_scalar, f"{module}.scalar"), (rebuild_array, f"{module}._reconstruct")]
    for name in ("addict.addict.Dict", "mmcv.utils.config.ConfigDict", "yacs.config.CfgNode"):
        plain.append((OrderedDict, name))
    return plain


def _globals(path: Path) -> list[str]:
    """The functions and classes that a file's pickles name, by reading the instructions without following any."""
    found: list[str] = []
    # A damaged file ends the scan early; the old format ends it too: after its pickles come raw numbers.
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in [name for name in archive.namelist() if name.endswith(".pkl")]:
                    with archive.open(member) as file:
                        _collect_globals(file, found)
        else:
            with path.open("rb") as file:
                while True:
                    _collect_globals(file, found)
    return list(dict.fromkeys(found))


def _collect_globals(file: IO[bytes], found: list[str]) -> None:
    strings: list[str] = []
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in _STRINGS:
            strings.append(str(argument))
        elif operation.name in ("GLOBAL", "INST"):
            found.append(str(argument).replace(" ", "."))
        elif operation.name == "STACK_GLOBAL" and len(strings) >= 2:
            found.append(".".join(strings[-2:]))
