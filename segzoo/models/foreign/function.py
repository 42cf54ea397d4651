"""A model that a function of one's own returns."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from segzoo.errors import SegzooError, UsageError, suggestion
from segzoo.models.foreign_logits import giving_logits


def build(num_classes: int, module: str, function: str) -> nn.Module:
    """What the function returns; it gets `num_classes` if it has a parameter of that name, and nothing else.

    Args:
        module: a module's name, looked for in the working directory too, or a file that ends in .py.

    Raises:
        UsageError: no such module or function, it fails, or it returns no module of PyTorch.
    """
    name = f"{module}:{function}"
    found = getattr(_module(module), function, None)
    if not callable(found):
        near = suggestion(function, [key for key in vars(_module(module)) if not key.startswith("_")])
        raise UsageError(f"{module} has no function {function!r}{near}")
    try:
        takes_classes = "num_classes" in inspect.signature(found).parameters
        model = found(num_classes=num_classes) if takes_classes else found()
    except SegzooError:
        raise
    except Exception as error:
        # Whatever a user's own function raises; --debug shows where.
        raise UsageError(f"{name} failed with {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{name} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return giving_logits(model)


def _module(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _module_of_file(Path(name))
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"cannot import {name}: {error}; is it installed, or in the working directory?") from error


def _module_of_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    key = f"segzoo_function_{abs(hash(file.resolve()))}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, file)
        if spec is None or spec.loader is None:
            raise UsageError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]
