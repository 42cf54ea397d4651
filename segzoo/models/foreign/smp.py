"""Models of segmentation_models_pytorch: an architecture over an encoder."""

from __future__ import annotations

from torch import nn

from segzoo.errors import UnavailableError, UsageError, suggestion
from segzoo.models.foreign_logits import giving_logits


def build(num_classes: int, architecture: str, encoder: str) -> nn.Module:
    """The model with fresh weights; `--checkpoint` has the trained ones.

    Raises:
        UnavailableError: segmentation_models_pytorch is not installed.
        UsageError: no such architecture or encoder.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        name = f"smp:{architecture}:{encoder}"
        raise UnavailableError(f"{name} needs segmentation_models_pytorch: pip install 'segzoo[smp]'") from error
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if architecture.lower() not in known:
        near = suggestion(architecture.lower(), known)
        raise UsageError(f"smp has no architecture {architecture!r}{near}; there are: {', '.join(sorted(known))}")
    try:
        return giving_logits(
            smp.create_model(architecture, encoder_name=encoder, encoder_weights=None, classes=num_classes)
        )
    except (KeyError, ValueError, RuntimeError) as error:
        near = suggestion(encoder, smp.encoders.encoders)
        raise UsageError(f"smp cannot build {architecture} over {encoder!r}{near}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error.args[0] if error.args else error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
