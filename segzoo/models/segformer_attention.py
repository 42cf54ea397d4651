"""The attentions that an encoder of the SegFormer family can have, by name.

All take tokens with the size of their map and give tokens: `attention(tokens, size)`. The names of their parameters
are those of Hugging Face's SegFormer and of the NOTA teams that built on it. LayerNorm eps is 1e-5 everywhere.

Letters: B batch, N tokens, S keys, C channels, D channels of a head, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError, demand_known
from segzoo.models.segformer_layers import Size, attend, to_map, to_tokens
from segzoo.models.strip_attention import MultiScaleUnit, TeamMultiScaleUnit

POOLED_SIDE = 7
KEY_CHANNELS = 64
VALUE_CHANNELS = 32
WINDOW = 7


class SpatialReductionAttention(nn.Module):
    """SegFormer's: keys and values come from the map reduced by a convolution of kernel = stride = `sr_ratio`.

    Rows and columns that do not fill a last window of the convolution give no keys; checkpoints depend on it.
    """

    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, sr_ratio)
            self.layer_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        reduced = tokens
        if self.sr_ratio > 1:
            reduced = self.layer_norm(to_tokens(self.sr(to_map(tokens, size))))
        return attend(self.query(tokens), self.key(reduced), self.value(reduced), self.num_heads)


class LinearReductionAttention(nn.Module):
    """LSRA (PVTv2, arXiv 2106.13797): the map is averaged to 7x7 whatever its size, so that the cost is linear in N."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.sr = nn.Conv2d(dim, dim, 1)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        pooled = self.sr(F.adaptive_avg_pool2d(to_map(tokens, size), POOLED_SIDE))
        pooled = F.gelu(self.layer_norm(to_tokens(pooled)))
        key, value = self.kv(pooled).chunk(2, dim=-1)
        return attend(self.query(tokens), key, value, self.num_heads)


class EfficientAttention(nn.Module):
    """Efficient attention (arXiv 1812.01243): K^T V first, so that no N x N matrix is ever formed.

    Keys are normalised over positions, queries over the channels of a head, without a scale; the module adds its own
    input to its output. The widths of keys and values do not depend on C.
    """

    def __init__(
        self, dim: int, num_heads: int, *, key_channels: int = KEY_CHANNELS, value_channels: int = VALUE_CHANNELS
    ) -> None:
        super().__init__()
        if key_channels % num_heads or value_channels % num_heads:
            raise UsageError(
                f"efficient attention: {num_heads} heads do not divide its {key_channels} key and "
                f"{value_channels} value channels; use 1, 2, 4 or 8 heads"
            )
        self.num_heads = num_heads
        self.query = nn.Conv2d(dim, key_channels, 1)
        self.key = nn.Conv2d(dim, key_channels, 1)
        self.value = nn.Conv2d(dim, value_channels, 1)
        self.reprojection = nn.Conv2d(value_channels, dim, 1)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        features = to_map(tokens, size)
        source = self.source(features)
        # [B, heads, D, positions] each.
        key, value = (
            part.flatten(2).unflatten(1, (self.num_heads, -1)) for part in (self.key(source), self.value(source))
        )
        query = self.query(features).flatten(2).unflatten(1, (self.num_heads, -1))
        context = key.softmax(dim=-1) @ value.transpose(-2, -1)
        attended = context.transpose(-2, -1) @ query.softmax(dim=-2)
        return to_tokens(self.reprojection(attended.flatten(1, 2).unflatten(2, size)) + features)

    def source(self, features: Tensor) -> Tensor:
        """The map [B, C, H', W'] that keys and values are made of: here the input itself."""
        return features


class LinearEfficientAttention(EfficientAttention):
    """LSREA: efficient attention whose keys and values come from the 7x7 map of LSRA (the NOTA team's own)."""

    def __init__(
        self, dim: int, num_heads: int, *, key_channels: int = KEY_CHANNELS, value_channels: int = VALUE_CHANNELS
    ) -> None:
        super().__init__(dim, num_heads, key_channels=key_channels, value_channels=value_channels)
        self.sr = nn.Conv2d(dim, dim, 1)
        self.layer_norm = nn.LayerNorm(dim)

    def source(self, features: Tensor) -> Tensor:
        """The 7x7 map [B, C, 7, 7]."""
        pooled = to_tokens(self.sr(F.adaptive_avg_pool2d(features, POOLED_SIDE)))
        return to_map(F.gelu(self.layer_norm(pooled)), (POOLED_SIDE, POOLED_SIDE))


class PooledAttention(nn.Module):
    """BoostFormer's: keys and values from the map averaged to 7x7, LayerNorm and GELU, with no convolution."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        pooled = to_tokens(F.adaptive_avg_pool2d(to_map(tokens, size), POOLED_SIDE))
        pooled = F.gelu(self.norm(pooled))
        return attend(self.query(tokens), self.key(pooled), self.value(pooled), self.num_heads)


class WindowAttention(nn.Module):
    """Attention inside 7x7 windows, unshifted and without position bias, as the NOTA team reduced Swin's.

    With `sr_ratio` > 1 each window's keys and values come from the window after a convolution of kernel = stride =
    `sr_ratio`. Scores are scaled twice, by 1 / sqrt(D) and by 1 / sqrt(heads): checkpoints depend on it.
    """

    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5 * num_heads**-0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, sr_ratio)
            self.layer_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C].

        Raises:
            UsageError: a map whose sides are no multiples of the window.
        """
        rows, columns = size[0] // WINDOW, size[1] // WINDOW
        if (rows * WINDOW, columns * WINDOW) != size:
            raise UsageError(
                f"window attention cuts maps into {WINDOW}x{WINDOW} windows, and a map of {size[0]}x{size[1]} is no "
                "multiple of that: with strides of 4 to 32 both sides of the image must be multiples of 224"
            )
        windows = tokens.unflatten(1, (rows, WINDOW, columns, WINDOW)).transpose(2, 3).flatten(3, 4).flatten(0, 2)
        query, key, value = self.qkv(windows).chunk(3, dim=-1)
        if self.sr_ratio > 1:
            reduced = self.layer_norm(to_tokens(self.sr(to_map(windows, (WINDOW, WINDOW)))))
            _, key, value = self.qkv(reduced).chunk(3, dim=-1)
        attended = self.proj(attend(query, key, value, self.num_heads, scale=self.scale))
        attended = attended.unflatten(0, (-1, rows, columns)).unflatten(3, (WINDOW, WINDOW))
        return attended.transpose(2, 3).flatten(1, 4)


class OnTokens(nn.Module):
    """A unit that works on maps, in the place of an attention; key `unit`."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        return to_tokens(self.unit(to_map(tokens, size)))


ATTENTIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "sra": SpatialReductionAttention,
    "lsra": lambda dim, num_heads, sr_ratio: LinearReductionAttention(dim, num_heads),
    "efficient": lambda dim, num_heads, sr_ratio: EfficientAttention(dim, num_heads),
    "lsrea": lambda dim, num_heads, sr_ratio: LinearEfficientAttention(dim, num_heads),
    "pooled": lambda dim, num_heads, sr_ratio: PooledAttention(dim, num_heads),
    "window": WindowAttention,
    "msca": lambda dim, num_heads, sr_ratio: OnTokens(MultiScaleUnit(dim)),
    "msca-nota": lambda dim, num_heads, sr_ratio: OnTokens(TeamMultiScaleUnit(dim)),
    "msca-triple": lambda dim, num_heads, sr_ratio: OnTokens(TeamMultiScaleUnit(dim, triple=True)),
}


def build_attention(name: str, dim: int, num_heads: int, sr_ratio: int) -> nn.Module:
    """The attention of this name; those without a reducing convolution ignore `sr_ratio`.

    Raises:
        UsageError: no such attention, or heads that do not divide its channels.
    """
    demand_known("attention", name, ATTENTIONS)
    if dim % num_heads:
        raise UsageError(f"{num_heads} heads do not divide the width {dim}")
    return ATTENTIONS[name](dim, num_heads, sr_ratio)


class AttentionSlot(nn.Module):
    """An attention with the names around it: `self` (window attention: `attn`) and, where kept, `output.dense`."""

    def __init__(self, name: str, dim: int, num_heads: int, sr_ratio: int, *, projection: bool) -> None:
        super().__init__()
        self.slot = "attn" if name == "window" else "self"
        self.add_module(self.slot, build_attention(name, dim, num_heads, sr_ratio))
        self.output = nn.ModuleDict({"dense": nn.Linear(dim, dim)}) if projection else None

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        attended = getattr(self, self.slot)(tokens, size)
        return attended if self.output is None else self.output["dense"](attended)
