"""Neighborhood attention in plain PyTorch: readable, on any device and on meta, forward and backward.

Letters: B batch, H height, W width, N heads, D head dimension, K kernel size (taps an axis).

Every query attends to K x K keys. On each axis a query looks only at positions of its own residue
class modulo the dilation; the window is centred on it and is shifted inwards at a border, never
shortened (Hassani et al., Neighborhood Attention Transformer, arXiv 2204.07143; with dilation:
arXiv 2209.15001). Memory stays at twice the size of the attention weights, because one tap is
gathered at a time. `forward` changes no tensor in place, so that torch.export can decompose the operator into it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are made in: float32 for half precision, the dtype itself otherwise."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def axis_neighbours(
    length: int, kernel_size: int, dilation: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Where the taps of one axis lie.

    Returns:
        int64 [length, K] positions of the neighbours, and int64 [length, K] indices into one axis of
        the bias table (signed distance in steps of `dilation`, plus K - 1).
    """
    position = torch.arange(length, device=device)
    residue, rank = position % dilation, position // dilation
    class_length = (length - residue + dilation - 1) // dilation
    start = torch.minimum((rank - kernel_size // 2).clamp(min=0), class_length - kernel_size)
    tap = start[:, None] + torch.arange(kernel_size, device=device)
    return tap * dilation + residue[:, None], tap - rank[:, None] + kernel_size - 1


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attention of every query over its neighbourhood.

    Args:
        query: [B, H, W, N, D], as are `key` and `value`.
        bias: [N, 2K-1, 2K-1], added to the scaled logits; or None.

    Returns:
        Output [B, H, W, N, D] in the dtype of `query`, and the logarithm of the softmax denominators,
        [B, H, W, N] in `compute_dtype`.
    """
    dtype = compute_dtype(query.dtype)
    rows, row_bias = axis_neighbours(query.shape[1], kernel_size, dilation, query.device)
    columns, column_bias = axis_neighbours(query.shape[2], kernel_size, dilation, query.device)
    logits = _logits(query.to(dtype) * scale, key.to(dtype), rows, columns)
    if bias is not None:
        logits = logits + _bias_of_taps(bias.to(dtype), row_bias, column_bias)
    logsumexp = torch.logsumexp(logits.flatten(-2), dim=-1)
    weights = torch.exp(logits - logsumexp[..., None, None])
    return _weighted_sum(weights, value.to(dtype), rows, columns).to(query.dtype), logsumexp


def backward(
    grad_output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    output: Tensor,
    logsumexp: Tensor,
    kernel_size: int,
    dilation: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients for `query`, `key`, `value` ([B, H, W, N, D]) and `bias` ([N, 2K-1, 2K-1], or empty).

    The attention weights are computed again from `logsumexp`, as in the fused kernels.
    """
    dtype = compute_dtype(query.dtype)
    rows, row_bias = axis_neighbours(query.shape[1], kernel_size, dilation, query.device)
    columns, column_bias = axis_neighbours(query.shape[2], kernel_size, dilation, query.device)
    scaled_query, wide_key, wide_grad = query.to(dtype) * scale, key.to(dtype), grad_output.to(dtype)
    logits = _logits(scaled_query, wide_key, rows, columns)
    if bias is not None:
        logits = logits + _bias_of_taps(bias.to(dtype), row_bias, column_bias)
    weights = torch.exp(logits - logsumexp[..., None, None])
    # sum over taps of weight * grad_weight, by the definition of the output
    row_sum = (wide_grad * output.to(dtype)).sum(-1)
    grad_logits = weights * (_logits(wide_grad, value.to(dtype), rows, columns) - row_sum[..., None, None])
    grad_query = _weighted_sum(grad_logits, wide_key, rows, columns) * scale
    grad_key = _scattered_sum(grad_logits, scaled_query, rows, columns)
    grad_value = _scattered_sum(weights, wide_grad, rows, columns)
    if bias is None:
        grad_bias = query.new_empty(0, dtype=dtype)
    else:
        grad_bias = _bias_gradient(grad_logits, row_bias, column_bias).to(bias.dtype)
    return grad_query.to(query.dtype), grad_key.to(query.dtype), grad_value.to(query.dtype), grad_bias


def _logits(query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[B, H, W, N, K, K] products of each query with its neighbours' keys."""
    logits = []
    for row_tap in range(rows.shape[1]):
        key_rows = key.index_select(1, rows[:, row_tap])
        for column_tap in range(columns.shape[1]):
            neighbour = key_rows.index_select(2, columns[:, column_tap])
            logits.append((query * neighbour).sum(-1))
    return torch.stack(logits, dim=-1).unflatten(-1, (rows.shape[1], columns.shape[1]))


def _weighted_sum(weights: Tensor, value: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[B, H, W, N, D] sums of the neighbours' values, weighted by [B, H, W, N, K, K]."""
    total = torch.zeros_like(value, memory_format=torch.contiguous_format)
    for row_tap in range(rows.shape[1]):
        value_rows = value.index_select(1, rows[:, row_tap])
        for column_tap in range(columns.shape[1]):
            neighbour = value_rows.index_select(2, columns[:, column_tap])
            total = total + weights[..., row_tap, column_tap, None] * neighbour
    return total


def _scattered_sum(weights: Tensor, source: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The transpose of `_weighted_sum`: each query adds to its neighbours."""
    total = torch.zeros_like(source, memory_format=torch.contiguous_format)
    for row_tap in range(rows.shape[1]):
        row_total = torch.zeros_like(total)
        for column_tap in range(columns.shape[1]):
            share = weights[..., row_tap, column_tap, None] * source
            row_total.index_add_(2, columns[:, column_tap], share)
        total.index_add_(1, rows[:, row_tap], row_total)
    return total


def _bias_of_taps(bias: Tensor, row_bias: Tensor, column_bias: Tensor) -> Tensor:
    """[H, W, N, K, K]: the table [N, 2K-1, 2K-1] looked up for every query and tap."""
    return bias[:, row_bias][..., column_bias].permute(1, 3, 0, 2, 4)


def _bias_gradient(grad_logits: Tensor, row_bias: Tensor, column_bias: Tensor) -> Tensor:
    """[N, 2K-1, 2K-1] sums of [B, H, W, N, K, K] over all that looked up the same entry."""
    heads, table = grad_logits.shape[3], 2 * row_bias.shape[1] - 1
    by_axis = grad_logits.sum(0).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    by_row = by_axis.new_zeros(heads, table, by_axis.shape[2]).index_add_(1, row_bias.flatten(), by_axis)
    return by_axis.new_zeros(heads, table, table).index_add_(2, column_bias.flatten(), by_row)
