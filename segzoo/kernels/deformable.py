"""The operator segzoo::deformable_attention: schema, fake, autograd and FLOP formula.

The readable reference stands at CompositeExplicitAutograd, so that every device has an answer. A
compiled library, when loaded, registers itself at CPU or CUDA, and the dispatcher prefers it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from segzoo.kernels import deformable_reference

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_ARGUMENTS = "Tensor value, int[] spatial_shapes, Tensor locations, Tensor weights"

_library = torch.library.Library("segzoo", "FRAGMENT")
_library.define(f"deformable_attention({_ARGUMENTS}) -> Tensor")
_library.define(
    f"deformable_attention_backward(Tensor grad_output, {_ARGUMENTS}, bool deterministic=False) "
    "-> (Tensor, Tensor, Tensor)"
)
_library.impl("deformable_attention", deformable_reference.forward, "CompositeExplicitAutograd")
_library.impl("deformable_attention_backward", deformable_reference.backward, "CompositeExplicitAutograd")


def deformable_attention(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of values sampled bilinearly at given places of several maps (arXiv 2010.04159).

    A location (x, y) in 0..1 spans its whole level: it reads pixel coordinates (x * W - 0.5, y * H - 0.5).
    What lies outside a map counts as zero, and the weights are not renormalised for it.

    On CUDA the gradient of `value` is summed in no fixed order, unless torch.use_deterministic_algorithms
    asks for one, which takes several times as long.

    Args:
        value: [batch, tokens, heads, head_dim], the levels one after the other, each row-major.
        spatial_shapes: (height, width) of each level, as a tensor [levels, 2] or a sequence of pairs.
        sampling_locations: [batch, queries, heads, levels, points, 2], last axis (x, y); float32 even where
            `value` is in half precision, which would lose sub-pixel places.
        attention_weights: [batch, queries, heads, levels, points], summing to 1 over levels and points.

    Returns:
        [batch, queries, heads * head_dim] in the dtype of `value`; channels of a head lie together. Sums are
        in float32, or in float64 where one of the three inputs is.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together.
    """
    flat = _flat_sides(spatial_shapes)
    _check(value, flat, sampling_locations, attention_weights)
    wide = functools.reduce(
        torch.promote_types, (value.dtype, sampling_locations.dtype, attention_weights.dtype), torch.float32
    )
    output = torch.ops.segzoo.deformable_attention(
        value.to(wide) if wide == torch.float64 else value,
        flat,
        sampling_locations.to(wide),
        attention_weights.to(wide),
    )
    return output.to(value.dtype)


def _flat_sides(spatial_shapes: Tensor | Sequence[tuple[int, int]]) -> list[int]:
    """Height and width of each level, one after the other."""
    pairs = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else list(spatial_shapes)
    if not pairs or any(not isinstance(pair, Sequence) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"spatial_shapes must be a (height, width) of each level, at least one, not {pairs}")
    flat = [int(side) for pair in pairs for side in pair]
    if min(flat) < 1:
        raise ValueError(f"spatial_shapes must have sides of at least 1, not {pairs}")
    return flat


def _check(value: Tensor, flat: list[int], locations: Tensor, weights: Tensor) -> None:
    tokens = sum(height * width for height, width in zip(flat[::2], flat[1::2], strict=True))
    if value.dim() != 4 or value.shape[1] != tokens:
        raise ValueError(
            f"value must be [batch, {tokens}, heads, head_dim] for levels {flat}, not {tuple(value.shape)}"
        )
    batch, _, heads, _ = value.shape
    if locations.dim() != 6 or locations.shape[-1] != 2:
        raise ValueError(
            f"sampling_locations must be [batch, queries, heads, levels, points, 2], not {tuple(locations.shape)}"
        )
    if (locations.shape[0], locations.shape[2], locations.shape[3]) != (batch, heads, len(flat) // 2):
        raise ValueError(
            f"sampling_locations {tuple(locations.shape)} do not fit value {tuple(value.shape)} "
            f"and {len(flat) // 2} levels"
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(f"attention_weights must be {tuple(locations.shape[:-1])}, not {tuple(weights.shape)}")
    for name, tensor in (("value", value), ("sampling_locations", locations), ("attention_weights", weights)):
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"{name} must be float64, float32, bfloat16 or float16, not {tensor.dtype}")
        if tensor.device != value.device:
            raise ValueError(f"{name} must be on the device of value, {value.device}, not on {tensor.device}")


@torch.library.register_fake("segzoo::deformable_attention")
def _fake_forward(value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("segzoo::deformable_attention_backward")
def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    locations: Tensor,
    weights: Tensor,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), locations.new_empty(locations.shape), weights.new_empty(weights.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.spatial_shapes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    grad_value, grad_locations, grad_weights = torch.ops.segzoo.deformable_attention_backward(
        grad_output.contiguous(),
        value,
        ctx.spatial_shapes,
        locations,
        weights,
        torch.are_deterministic_algorithms_enabled(),
    )
    return grad_value, None, grad_locations, grad_weights


torch.library.register_autograd("segzoo::deformable_attention", _gradients, setup_context=_setup_context)


@register_flop_formula(torch.ops.segzoo.deformable_attention)
def forward_flops(
    value_shape: torch.Size,
    spatial_shapes: list[int],
    locations_shape: torch.Size,
    weights_shape: torch.Size,
    *_: Any,
    **__: Any,
) -> int:
    """FLOPs (2 a multiply-add): four corners and one weighting a channel of every sampled point."""
    batch, queries, heads, levels, points = weights_shape
    return 2 * 5 * batch * queries * heads * levels * points * value_shape[-1]


@register_flop_formula(torch.ops.segzoo.deformable_attention_backward)
def backward_flops(
    grad_output_shape: torch.Size,
    value_shape: torch.Size,
    spatial_shapes: list[int],
    locations_shape: torch.Size,
    weights_shape: torch.Size,
    *_: Any,
    **__: Any,
) -> int:
    """FLOPs of four products with the gradient and four additions to that of the values, a channel of every point."""
    batch, queries, heads, levels, points = weights_shape
    return 2 * 8 * batch * queries * heads * levels * points * value_shape[-1]
