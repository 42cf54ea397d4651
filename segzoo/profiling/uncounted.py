"""What an operator without a formula is: a mere move of data, cheap arithmetic, or a gap in the rules."""

from __future__ import annotations

import torch
from torch._ops import OpOverload

# Tag.reduction is younger than the oldest torch that we support.
_CHEAP_TAGS = {getattr(torch.Tag, name) for name in ("pointwise", "reduction") if hasattr(torch.Tag, name)}

# Arithmetic of a few operations an element; older releases of torch do not tag all of it.
_CHEAP = frozenset(
    """
    _adaptive_avg_pool2d _log_softmax _safe_softmax _softmax adaptive_max_pool2d all amax amin any argmax argmin
    avg_pool1d avg_pool2d cumsum log_softmax logsumexp max max_pool2d_with_indices mean min native_dropout norm prod
    softmax sort std sum topk var var_mean
    """.split()  # noqa: SIM905  (a list of literals takes a line for each name)
)

_MOVES = frozenset(
    """
    _to_copy _unsafe_index _unsafe_view alias arange cat clone col2im constant_pad_nd contiguous copy copy_ detach
    empty empty_like empty_strided expand eye fill fill_ flip full full_like gather im2col index index_put index_put_
    index_select lift_fresh lift_fresh_copy linspace masked_select meshgrid new_empty new_full new_ones new_zeros
    nonzero ones ones_like permute_copy pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d repeat
    replication_pad1d replication_pad2d resize_ roll scalar_tensor scatter select_scatter slice_scatter stack to
    transpose_copy tril triu unfold view_copy zero_ zeros zeros_like
    """.split()  # noqa: SIM905
)


def moves_only(operator: OpOverload) -> bool:
    """True for views, copies, gathers and fresh tensors: nothing is computed."""
    return operator.is_view or operator.overloadpacket.__name__ in _MOVES


def is_elementwise(operator: OpOverload) -> bool:
    """True for element-wise arithmetic and reductions, which no counting rule counts."""
    return bool(_CHEAP_TAGS & set(operator.tags)) or operator.overloadpacket.__name__ in _CHEAP
