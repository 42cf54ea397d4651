"""The operator segzoo::neighborhood_attention_2d: schema, fake, autograd and FLOP formula.

The readable reference stands at CompositeExplicitAutograd, so that every device has an answer. A
compiled library, when loaded, registers itself at CPU or CUDA, and the dispatcher prefers it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from segzoo.device import has_autocast
from segzoo.kernels import reference

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_ARGUMENTS = "Tensor query, Tensor key, Tensor value, Tensor? bias"
_NUMBERS = "int kernel_size, int dilation, float scale"

_library = torch.library.Library("segzoo", "FRAGMENT")
_library.define(f"neighborhood_attention_2d({_ARGUMENTS}, {_NUMBERS}) -> (Tensor, Tensor)")
_library.define(
    "neighborhood_attention_2d_backward(Tensor grad_output, "
    f"{_ARGUMENTS}, Tensor output, Tensor logsumexp, {_NUMBERS}) -> (Tensor, Tensor, Tensor, Tensor)"
)
_library.impl("neighborhood_attention_2d", reference.forward, "CompositeExplicitAutograd")
_library.impl("neighborhood_attention_2d_backward", reference.backward, "CompositeExplicitAutograd")


def neighborhood_attention_2d(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor | None = None,
    *,
    kernel_size: int,
    dilation: int = 1,
    scale: float | None = None,
) -> Tensor:
    """Attention of every pixel over its kernel_size x kernel_size neighbourhood.

    The window is shifted inwards at borders, never shortened; with `dilation` it is taken in steps of
    that many pixels. Differentiable once with respect to all four tensors.

    Half precision is read and written as it is and summed in float32. Under autocast q, k and v of float32
    are taken to autocast's dtype, as those of a matrix product would be; `rpb` keeps its own.

    Args:
        q: queries, [batch, height, width, heads, head_dim] with any strides (views of a fused
            projection are read in place); float64, float32, bfloat16 or float16.
        k: keys, as `q`.
        v: values, as `q`.
        rpb: relative position bias [heads, 2*kernel_size-1, 2*kernel_size-1], added to the scaled
            logits; any floating dtype.
        kernel_size: odd, at least 3.
        dilation: step between neighbours, at least 1.
        scale: factor on the logits; head_dim ** -0.5 when None.

    Returns:
        Contiguous [batch, height, width, heads, head_dim] in the dtype of `q`.

    Raises:
        ValueError: shapes, dtypes, devices or numbers that do not fit together, or a map smaller than
            kernel_size * dilation (pad it first).
    """
    _check(q, k, v, rpb, kernel_size, dilation)
    if q.dtype == torch.float32 and has_autocast(q.device.type) and torch.is_autocast_enabled(q.device.type):
        low = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(low), k.to(low), v.to(low)
    if rpb is not None:
        rpb = rpb.to(reference.compute_dtype(q.dtype))
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    return torch.ops.segzoo.neighborhood_attention_2d(q, k, v, rpb, kernel_size, dilation, scale)[0]


def _check(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor | None, kernel_size: int, dilation: int) -> None:
    if q.dim() != 5 or q.shape != k.shape or q.shape != v.shape:
        raise ValueError(
            "q, k and v must have one shape [batch, height, width, heads, head_dim], "
            f"not {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if q.dtype not in _DTYPES or q.dtype != k.dtype or q.dtype != v.dtype:
        raise ValueError(
            "q, k and v must have one dtype of float64, float32, bfloat16 and float16, "
            f"not {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if q.device != k.device or q.device != v.device:
        raise ValueError(f"q, k and v must be on one device, not {q.device}, {k.device}, {v.device}")
    if q.shape[3] < 1 or q.shape[4] < 1:
        raise ValueError(f"q, k and v must have at least one head of at least one channel, not {tuple(q.shape)}")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and at least 3, not {kernel_size}")
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1, not {dilation}")
    height, width, heads = q.shape[1:4]
    # Not the smaller of the two: torch.export would then know which one that is in the traced size.
    if height < kernel_size * dilation or width < kernel_size * dilation:
        raise ValueError(
            f"a map of {height}x{width} is smaller than kernel_size * dilation = {kernel_size * dilation}; "
            "pad it to at least that size on both axes"
        )
    if rpb is not None:
        _check_bias(rpb, heads, kernel_size, q.device)


def _check_bias(rpb: Tensor, heads: int, kernel_size: int, device: torch.device) -> None:
    table = 2 * kernel_size - 1
    if tuple(rpb.shape) != (heads, table, table):
        raise ValueError(f"rpb must be [heads, {table}, {table}] with {heads} heads, not {tuple(rpb.shape)}")
    if not rpb.is_floating_point():
        raise ValueError(f"rpb must have a floating dtype, not {rpb.dtype}")
    if rpb.device != device:
        raise ValueError(f"rpb must be on the device of q, {device}, not on {rpb.device}")


@torch.library.register_fake("segzoo::neighborhood_attention_2d")
def _fake_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    logsumexp = query.new_empty(query.shape[:-1], dtype=reference.compute_dtype(query.dtype))
    return query.new_empty(query.shape), logsumexp


@torch.library.register_fake("segzoo::neighborhood_attention_2d_backward")
def _fake_backward(
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
    if bias is None:
        grad_bias = query.new_empty(0, dtype=reference.compute_dtype(query.dtype))
    else:
        grad_bias = bias.new_empty(bias.shape)
    return query.new_empty(query.shape), query.new_empty(query.shape), query.new_empty(query.shape), grad_bias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, bias, ctx.kernel_size, ctx.dilation, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(query, key, value, bias, *output)


def _gradients(ctx: Any, grad_output: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    query, key, value, bias, output, logsumexp = ctx.saved_tensors
    grad_query, grad_key, grad_value, grad_bias = torch.ops.segzoo.neighborhood_attention_2d_backward(
        grad_output, query, key, value, bias, output, logsumexp, ctx.kernel_size, ctx.dilation, ctx.scale
    )
    return grad_query, grad_key, grad_value, None if bias is None else grad_bias, None, None, None


torch.library.register_autograd("segzoo::neighborhood_attention_2d", _gradients, setup_context=_setup_context)


def _no_second_derivative(ctx: Any, *grads: Tensor | None) -> None:
    raise NotImplementedError(
        "neighborhood_attention_2d is differentiable once; for second derivatives there is no formula"
    )


torch.library.register_autograd("segzoo::neighborhood_attention_2d_backward", _no_second_derivative)


@register_flop_formula(torch.ops.segzoo.neighborhood_attention_2d)
def forward_flops(
    query_shape: torch.Size,
    key_shape: torch.Size,
    value_shape: torch.Size,
    bias_shape: torch.Size | None,
    kernel_size: int,
    *_: Any,
    **__: Any,
) -> int:
    """FLOPs (2 a multiply-add) of logits and weighted values; softmax and bias are not counted."""
    return 2 * _product_flops(query_shape, kernel_size)


@register_flop_formula(torch.ops.segzoo.neighborhood_attention_2d_backward)
def backward_flops(
    grad_output_shape: torch.Size,
    query_shape: torch.Size,
    key_shape: torch.Size,
    value_shape: torch.Size,
    bias_shape: torch.Size | None,
    output_shape: torch.Size,
    logsumexp_shape: torch.Size,
    kernel_size: int,
    *_: Any,
    **__: Any,
) -> int:
    """FLOPs of the backward's five products: the logits again, and one each for weights, q, k and v."""
    return 5 * _product_flops(query_shape, kernel_size)


def _product_flops(shape: torch.Size, kernel_size: int) -> int:
    batch, height, width, heads, head_dim = shape
    return 2 * batch * height * width * heads * kernel_size**2 * head_dim
