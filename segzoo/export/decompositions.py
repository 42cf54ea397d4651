"""Operators that other programs lack, in terms of plain PyTorch and in few large steps.

The readable references go tap by tap, which saves memory and would make thousands of nodes. These gather
all neighbours at once, give the same numbers, and work with heights and widths that are not known yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segzoo.kernels import deformable_reference
from segzoo.kernels.reference import axis_neighbours, compute_dtype


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> tuple[Tensor, Tensor]:
    """The operator's two outputs, see segzoo/kernels/reference.py; memory grows with kernel_size squared."""
    dtype = compute_dtype(query.dtype)
    height, width = query.shape[1:3]
    rows, row_bias = axis_neighbours(height, kernel_size, dilation, query.device)
    columns, column_bias = axis_neighbours(width, kernel_size, dilation, query.device)
    near_keys = _neighbours(key.to(dtype), rows, columns)
    scaled = (query.to(dtype) * scale).unsqueeze(-2)
    logits = torch.matmul(scaled, near_keys.transpose(-1, -2)).squeeze(-2)
    if bias is not None:
        table = 2 * kernel_size - 1
        # Flat places in the bias table, since a lookup by two index tensors has no counterpart in ONNX.
        places = row_bias[:, None, :, None] * table + column_bias[None, :, None, :]
        of_taps = bias.to(dtype).flatten(1).index_select(1, places.flatten())
        logits = logits + of_taps.reshape(1, -1, height, width, kernel_size**2).permute(0, 2, 3, 1, 4)
    logsumexp = torch.logsumexp(logits, dim=-1)
    weights = torch.softmax(logits, dim=-1)
    output = torch.matmul(weights.unsqueeze(-2), _neighbours(value.to(dtype), rows, columns)).squeeze(-2)
    return output.to(query.dtype), logsumexp


def _neighbours(tensor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[B, H, W, N, D] -> [B, H, W, N, K * K, D]: what every place sees."""
    batch, height, width, heads, dim = tensor.shape
    taps = rows.shape[1]
    gathered = tensor.index_select(1, rows.flatten()).index_select(2, columns.flatten())
    gathered = gathered.reshape(batch, height, taps, width, taps, heads, dim)
    return gathered.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)


def adaptive_average_pool(image: Tensor, output_size: list[int]) -> Tensor:
    """[B, C, H, W] -> [B, C, *output_size], as two matrix products.

    The exporter's own decomposition writes the bins of the traced size into the file as constants, so
    that other sizes come out wrong without a word.
    """
    rows = _bins(image.shape[-2], output_size[0], image)
    columns = _bins(image.shape[-1], output_size[1], image)
    return torch.matmul(torch.matmul(rows, image), columns.transpose(0, 1))


def _bins(length: int, count: int, like: Tensor) -> Tensor:
    """[count, length]: bin i is the mean from floor(i * length / count) to ceil((i + 1) * length / count)."""
    place = torch.arange(length, device=like.device)[None, :]
    index = torch.arange(count, device=like.device)[:, None]
    begin = index * length // count
    end = ((index + 1) * length + count - 1) // count
    inside = ((place >= begin) & (place < end)).to(like.dtype)
    return inside / (end - begin).to(like.dtype)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """PyTorch's scaled_dot_product_attention in evaluation: [..., L, D], [..., S, D], [..., S, E] -> [..., L, E].

    PyTorch's own kernel for the CPU gives a transposed memory layout, which a graph that is taken apart
    later still counts on and no longer has.
    """
    if is_causal or enable_gqa or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise NotImplementedError("attention that is causal, grouped or masked by truth values has no decomposition")
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    logits = torch.matmul(query * factor, key.transpose(-1, -2))
    weights = torch.softmax(logits if attn_mask is None else logits + attn_mask, dim=-1)
    return torch.matmul(weights, value)


def table(*, foreign: bool = True) -> dict[Any, Callable[..., Any]]:
    """Operator -> its decomposition, for torch.export's `run_decompositions`.

    Args:
        foreign: also those that PyTorch has fused and other programs lack.
    """
    ours = {
        torch.ops.segzoo.neighborhood_attention_2d.default: neighborhood_attention,
        torch.ops.segzoo.deformable_attention.default: deformable_reference.forward,
        torch.ops.aten.adaptive_avg_pool2d.default: adaptive_average_pool,
    }
    return ours | ({torch.ops.aten.scaled_dot_product_attention.default: attention} if foreign else {})


class _Decompose(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replacement = table().get(func)
        return (replacement or func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def decomposed() -> Iterator[None]:
    """Runs the body with segzoo's operators taken apart, as they will be in an exported file."""
    with _Decompose():
        yield
