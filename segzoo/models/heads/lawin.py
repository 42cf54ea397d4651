"""Lawin decode head: attention from 8x8 windows of the fused map to windows around them, 2 to 8 times as wide.

Paper: arXiv 2201.01615. State-dict keys are those of the authors' SegFormer fork (yan-hao-tian/VW, branch
oldversion); `conv_seg` is in the checkpoints and never used. BatchNorm and LayerNorm eps are 1e-5.

Letters: B batch, C channels, K classes, N heads, D channels of a head, P side of a window, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.heads.segformer import UNUSED_CHANNELS, MapLinear
from segzoo.models.layers import ConvNormAct, init_classifier, resize
from segzoo.models.segformer_layers import attend, fold, to_map, to_tokens

PATCH = 8
RATIOS = (8, 4, 2)
LOW_LEVEL_CHANNELS = 48


class ConvNorm(nn.Module):
    """1x1 convolution without bias and batch norm, keys `conv` and `bn`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        return self.bn(self.conv(features))

    def fuse(self) -> None:
        """Folds the batch norm into the convolution."""
        self.conv, self.bn = fold(self.conv, self.bn)


def _conv(in_channels: int, out_channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({"conv": nn.Conv2d(in_channels, out_channels, 1)})


class WindowToContext(nn.Module):
    """Multi-head attention from the positions of a window to those of its context, plus the window itself.

    Each head first mixes the positions of the normalised context by a learned matrix, zero at the start.
    """

    def __init__(self, channels: int, num_heads: int, *, patch: int = PATCH, reduction: int = 2, mixing: bool = True):
        super().__init__()
        if channels % num_heads or (channels // reduction) % num_heads:
            raise UsageError(f"{num_heads} heads do not divide the {channels} channels and their 1/{reduction}")
        inner = channels // reduction
        self.num_heads = num_heads
        self.mixing = mixing
        self.g = _conv(channels, inner)
        self.conv_out = ConvNorm(inner, channels)
        self.theta = _conv(channels, inner)
        self.phi = _conv(channels, inner)
        if mixing:
            self.norm = nn.LayerNorm(channels)
            self.position_mixing = nn.ParameterDict(
                {
                    "bias": nn.Parameter(torch.zeros(1, num_heads, 1, patch**2)),
                    "weight": nn.Parameter(torch.zeros(num_heads, patch**2, patch**2)),
                }
            )

    def forward(self, windows: Tensor, contexts: Tensor) -> Tensor:
        """Two [B', C, P, P] -> [B', C, P, P]."""
        size = (windows.shape[2], windows.shape[3])
        if self.mixing:
            contexts = self._mix_positions(contexts)
        query, key, value = (
            to_tokens(conv["conv"](source))
            for conv, source in ((self.theta, windows), (self.phi, contexts), (self.g, contexts))
        )
        attended = to_map(attend(query, key, value, self.num_heads), size)
        return windows + self.conv_out(attended)

    def _mix_positions(self, contexts: Tensor) -> Tensor:
        normalised = self.norm(to_tokens(contexts)).transpose(1, 2).unflatten(1, (self.num_heads, -1))
        mixed = normalised @ self.position_mixing["weight"] + self.position_mixing["bias"]
        return (normalised + mixed).flatten(1, 2).view_as(contexts)


class PoolReduction(nn.Module):
    """Mean of maximum and average pooling of kernel = stride = `ratio`."""

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / ratio, W / ratio]."""
        return 0.5 * (F.max_pool2d(features, self.ratio) + F.avg_pool2d(features, self.ratio))


class ConvReduction(nn.Module):
    """Depthwise convolution of kernel = stride = `ratio`, then a 1x1 one, each with batch norm and ReLU."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        depthwise = ConvNormAct(channels, channels, ratio, stride=ratio)
        depthwise.conv = nn.Conv2d(channels, channels, ratio, ratio, groups=channels, bias=False)
        self.proj = nn.ModuleDict({"depthwise_conv": depthwise, "pointwise_conv": ConvNormAct(channels, channels, 1)})

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / ratio, W / ratio]."""
        return self.proj["pointwise_conv"](self.proj["depthwise_conv"](features))


class LawinHead(nn.Module):
    """Maps at strides 4 to 32 -> logits at stride 4; the sides of the second map must be multiples of 8.

    Args:
        in_channels: channels of the four maps, shallow to deep.
        num_classes: number of classes.
        embed_dim: width to which the three deeper maps are brought.
        channels: width of the head.
        reduction: what the attention divides `channels` by.
        depth: attentions one after the other for each ratio.
        proj_type: "pool" or "conv", how the contexts are made smaller.
        mixing: the attention mixes positions.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        embed_dim: int = 512,
        channels: int = 512,
        reduction: int = 2,
        depth: int = 1,
        proj_type: str = "pool",
        mixing: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if proj_type not in ("pool", "conv"):
            raise UsageError(f'unknown proj_type {proj_type!r}; there are "pool" and "conv"')
        self.conv_seg = nn.Conv2d(UNUSED_CHANNELS, num_classes, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.linear_c4 = MapLinear(in_channels[3], embed_dim)
        self.linear_c3 = MapLinear(in_channels[2], embed_dim)
        self.linear_c2 = MapLinear(in_channels[1], embed_dim)
        self.linear_fuse = ConvNormAct(3 * embed_dim, channels, 1)
        self.linear_pred = nn.Conv2d(channels, num_classes, 1)
        for ratio in RATIOS:
            attentions = [WindowToContext(channels, ratio**2, reduction=reduction, mixing=mixing) for _ in range(depth)]
            self.add_module(f"lawin_{ratio}", nn.ModuleList(attentions))
            reductions = [
                PoolReduction(ratio) if proj_type == "pool" else ConvReduction(channels, ratio) for _ in range(depth)
            ]
            self.add_module(f"ds_{ratio}", nn.ModuleList(reductions))
        self.short_path = ConvNormAct(channels, channels, 1)
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormAct(channels, channels, 1))
        self.cat = ConvNormAct((2 + len(RATIOS)) * channels, channels, 1)
        self.linear_c1 = MapLinear(in_channels[0], LOW_LEVEL_CHANNELS)
        self.low_level_fuse = ConvNormAct(channels + LOW_LEVEL_CHANNELS, channels, 1)
        init_classifier(self.conv_seg)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for i = 0..3 -> [B, K, H_0, W_0].

        Raises:
            UsageError: a second map that cannot be cut into windows.
        """
        first, second, third, fourth = features
        size = second.shape[2:]
        if size[0] % PATCH or size[1] % PATCH:
            raise UsageError(
                f"the Lawin head cuts the map at stride 8 into {PATCH}x{PATCH} windows, and {size[0]}x{size[1]} is no "
                "multiple of that: both sides of the image must be multiples of 64"
            )
        deep = [resize(self.linear_c4(fourth), size), resize(self.linear_c3(third), size), self.linear_c2(second)]
        fused = self.linear_fuse(torch.cat(deep, dim=1))
        branches = [self.short_path(fused), resize(self.image_pool(fused), size)]
        branches += [self._attend(fused, ratio) for ratio in RATIOS]
        mixed = resize(self.cat(torch.cat(branches, dim=1)), first.shape[2:])
        mixed = self.low_level_fuse(torch.cat([mixed, self.linear_c1(first)], dim=1))
        return self.linear_pred(self.dropout(mixed))

    def _attend(self, features: Tensor, ratio: int) -> Tensor:
        size = features.shape[2:]
        for attention, reduction in zip(getattr(self, f"lawin_{ratio}"), getattr(self, f"ds_{ratio}"), strict=True):
            contexts = cut(F.pad(reduction(features), _padding(ratio)), stride=PATCH // ratio)
            windows = attention(cut(features, stride=PATCH), contexts)
            windows = windows.unflatten(0, (-1, size[0] // PATCH, size[1] // PATCH))
            features = windows.permute(0, 3, 1, 4, 2, 5).reshape(features.shape)
        return features


def cut(features: Tensor, *, stride: int) -> Tensor:
    """The 8x8 windows of [B, C, H, W] at every `stride` rows and columns, as [B * windows, C, 8, 8]."""
    windows = features.unfold(2, PATCH, stride).unfold(3, PATCH, stride)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _padding(ratio: int) -> tuple[int, int, int, int]:
    """Zeros left, right, top and bottom of a reduced map, so that there is one context for each window.

    An odd number is split unevenly, and the other way round in rows than in columns; checkpoints depend on it.
    """
    total = PATCH - PATCH // ratio
    less, more = total // 2, total - total // 2
    return less, more, more, less


build = LawinHead
