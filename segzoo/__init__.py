"""segzoo: published semantic segmentation models, their protocols and their numbers, on today's PyTorch.

The public names are imported on first use, so that `import segzoo` stays light and imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Protocol": "segzoo.protocol",
    "Run": "segzoo.results",
    "SegzooError": "segzoo.errors",
    "create_model": "segzoo.registry",
    "evaluate": "segzoo.evaluation",
    "get_protocol": "segzoo.registry",
    "kernels": "segzoo.kernels",
    "list_models": "segzoo.registry",
    "predict": "segzoo.inference",
}

__all__ = [*_PUBLIC, "__version__"]

if TYPE_CHECKING:
    from segzoo import kernels as kernels
    from segzoo.errors import SegzooError as SegzooError
    from segzoo.evaluation import evaluate as evaluate
    from segzoo.inference import predict as predict
    from segzoo.protocol import Protocol as Protocol
    from segzoo.registry import create_model as create_model
    from segzoo.registry import get_protocol as get_protocol
    from segzoo.registry import list_models as list_models
    from segzoo.results import Run as Run


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'segzoo' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    value = module if _PUBLIC[name] == f"segzoo.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
