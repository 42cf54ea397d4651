"""Multi-scale deformable attention in plain PyTorch: readable, any device, the truth for the kernels.

Follows arXiv 2010.04159 and its CUDA code: a location (x, y) in 0..1 reads level l at pixel coordinates
(x * W - 0.5, y * H - 0.5), bilinearly, and a neighbour outside the map counts as zero.

Letters: B batch, Q queries, M heads, L levels, P points, D channels of a head, S tokens of all levels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    """[B, S, M, D], flat (H, W) of each level, [B, Q, M, L, P, 2], [B, Q, M, L, P] -> [B, Q, M * D].

    Half-precision values are summed in the dtype of locations and weights and rounded in the end.
    """
    batch, queries, heads, levels, points, _ = locations.shape
    narrow, value = value.dtype, value.to(locations.dtype)
    output = value.new_zeros(batch * heads, value.shape[-1], queries)
    start = 0
    for level in range(levels):
        height, width = spatial_shapes[2 * level : 2 * level + 2]
        tokens = value[:, start : start + height * width]
        start += height * width
        features = tokens.permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        share = weights[:, :, :, level].transpose(1, 2).reshape(batch * heads, 1, queries, points)
        output = output + (sampled * share).sum(-1)
    return output.view(batch, heads, -1, queries).permute(0, 3, 1, 2).flatten(2).contiguous().to(narrow)


def backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    locations: Tensor,
    weights: Tensor,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to value, locations and weights, by autograd over `forward`.

    PyTorch's own switch decides whether grid_sample may sum in any order; `deterministic` is for the kernels.
    """
    inputs = [tensor.detach().requires_grad_() for tensor in (value, locations, weights)]
    with torch.enable_grad():
        output = forward(inputs[0], spatial_shapes, inputs[1], inputs[2])
        gradients = torch.autograd.grad(output, inputs, grad_output)
    return gradients[0].contiguous(), gradients[1].contiguous(), gradients[2].contiguous()
