"""One hash for the values that a model holds, whatever file they came from."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def digest_of(model: nn.Module) -> str:
    """SHA-256 over the names, shapes, formats and values of all parameters and buffers, as 64 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()
