"""Activation checkpointing: blocks keep their input alone and run again for the gradient."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from segzoo.errors import UsageError


class _RunAgain:
    """Calls a block's own forward, in training without keeping what lies inside."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.forward = block.forward

    def __call__(self, *inputs: Any) -> Any:
        if not self.block.training:
            return self.forward(*inputs)
        # Not reentrant: it works with DDP and with blocks none of whose inputs needs a gradient. Dropout and drop
        # path draw the same numbers the second time.
        return checkpoint(self.forward, *inputs, use_reentrant=False)


def checkpoint_activations(model: nn.Module) -> int:
    """Makes the blocks of `model` save memory, in place, and returns their number; keys and numbers stay.

    A block is a member of a list or sequence of modules whose class is called ...Block or ...Layer.

    Raises:
        UsageError: the model has none.
    """
    blocks = [
        child
        for parent in model.modules()
        if isinstance(parent, nn.ModuleList | nn.Sequential)
        for child in parent.children()
        if type(child).__name__.endswith(("Block", "Layer", "Bottleneck"))
    ]
    if not blocks:
        raise UsageError("--activation-checkpointing: this model has no blocks to run again")
    for block in blocks:
        # Past nn.Module's own attribute handling, which has no place for a function.
        object.__setattr__(block, "forward", _RunAgain(block))
    return len(blocks)
