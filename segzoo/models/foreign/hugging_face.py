"""Semantic segmentation models of transformers, from a folder of save_pretrained or from the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

from torch import nn

from segzoo import paths
from segzoo.errors import IntegrityError, NetworkError, UnavailableError, UsageError
from segzoo.models.foreign_logits import giving_logits

_SHOWN = 3


def build(num_classes: int, source: str, pretrained: bool = False) -> nn.Module:
    """The model of a source's config.json, with its weights or with fresh ones.

    Args:
        num_classes: with fresh weights another number than the config's may be had.
        source: a folder, or OWNER/NAME on the Hub.
        pretrained: with its weights; all of them must be there.

    Raises:
        UnavailableError: transformers is not installed.
        UsageError: not a model of semantic segmentation.
        IntegrityError: weights that are missing or do not fit.
        NetworkError: the Hub does not answer.
    """
    try:
        import transformers
    except ImportError as error:
        raise UnavailableError(f"hf:{source} needs transformers: pip install 'segzoo[transformers]'") from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where = {"local_files_only": paths.offline(), "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **where)
        if not pretrained:
            config.num_labels = num_classes
            return giving_logits(transformers.AutoModelForSemanticSegmentation.from_config(config))
        model, info = transformers.AutoModelForSemanticSegmentation.from_pretrained(
            source, output_loading_info=True, **where
        )
    except ValueError as error:
        raise UsageError(f"hf:{source}: {_first_line(error)}") from error
    except OSError as error:
        kind = NetworkError if "connect" in str(error).lower() or "offline" in str(error).lower() else IntegrityError
        raise kind(f"hf:{source}: {_first_line(error)}") from error
    except RuntimeError as error:
        # Tensors of other shapes than the config says.
        raise IntegrityError(f"hf:{source}: {_first_line(error)}") from error
    _demand_all(source, info)
    return giving_logits(model)


def _demand_all(source: str, info: dict[str, Any]) -> None:
    """Weights that are not in the file would be random without a word."""
    for kind in ("missing_keys", "mismatched_keys"):
        keys = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get(kind, ()))
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            word = kind.removesuffix("_keys")
            raise IntegrityError(f"hf:{source}: {len(keys)} weights are {word}: {', '.join(keys[:_SHOWN])}{more}")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
