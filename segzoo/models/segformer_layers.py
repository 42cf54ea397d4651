"""What the encoders of the SegFormer family share: tokens and maps, attention, initial values.

A map of features travels either as [B, C, H, W] or as tokens [B, N, C] with its size (H, W), N = H * W.

Letters: B batch, N tokens, S keys, C channels, D channels of a head, H height, W width.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError

Size = tuple[int, int]


def to_tokens(features: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H * W, C]."""
    return features.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: Size) -> Tensor:
    """[B, H * W, C] -> [B, C, H, W]."""
    return tokens.transpose(1, 2).unflatten(2, size)


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int, *, scale: float | None = None) -> Tensor:
    """Softmax attention with channels split over heads: [B, N, C], [B, S, C], [B, S, C'] -> [B, N, C'].

    Args:
        num_heads: must divide both widths.
        scale: factor on the scores; None is 1 / sqrt(D).
    """
    query, key, value = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2).flatten(2)


class DepthwiseConv(nn.Module):
    """A 3x3 depthwise convolution with bias on maps; key `dwconv`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.dwconv(features)


def each_stage(word: str, value: object, count: int) -> list:
    """`value` once for each stage: a list as it is, anything else repeated.

    Raises:
        UsageError: a list of another length.
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise UsageError(f"{word} needs one value for each of the {count} stages, not {values}")
    return values


def drop_path_rates(drop_path_rate: float, depths: list[int]) -> list[list[float]]:
    """Rates that rise linearly from 0 to `drop_path_rate` over all blocks, one list a stage."""
    rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
    return [list(itertools.islice(rates, depth)) for depth in depths]


def init_segformer(module: nn.Module) -> None:
    """Initial values, for `module.apply`: linear truncated normal (std 0.02), convolutions normal by fan-out."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def fold(conv: nn.Conv2d, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """(one convolution that does what both do in evaluation mode, nothing); unchanged where it is done already."""
    if not isinstance(norm, nn.BatchNorm2d):
        return conv, norm
    return torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval()), nn.Identity()
