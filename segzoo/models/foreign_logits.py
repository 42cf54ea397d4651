"""Makes a model of another library give its logits alone, whatever it wraps them in."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segzoo.errors import UsageError

_KEYS = ("logits", "out")


def giving_logits(model: nn.Module) -> nn.Module:
    """The same model, whose calls return logits [B, C, h, w]; its keys stay as they are."""
    model.register_forward_hook(lambda module, inputs, output: logits_of(output))
    return model


def logits_of(output: Any) -> Tensor:
    """The logits in a model's answer: the tensor itself, or that under "logits" or "out".

    Raises:
        UsageError: there is none.
    """
    if isinstance(output, Tensor):
        return output
    for key in _KEYS:
        value = output.get(key) if isinstance(output, dict) else getattr(output, key, None)
        if isinstance(value, Tensor):
            return value
    keys = f" with the keys {', '.join(map(str, output))}" if isinstance(output, dict) else ""
    raise UsageError(
        f"the model gives a {type(output).__name__}{keys}; it must give logits [B, C, h, w], as a tensor or under "
        f"{' or '.join(_KEYS)}"
    )
