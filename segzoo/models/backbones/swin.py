"""Swin Transformer: attention in windows that shift from block to block.

Paper: arXiv 2103.14030. State-dict keys are those of mmsegmentation. Two things a checkpoint depends on:
maps are zero-padded to whole windows AFTER the norm (padded tokens are not masked), and pairs of tokens
from different regions of a shifted window get -100 added to their score, not minus infinity.

Letters: B batch, C channels, H height, W width, N heads, M window side, T tokens of a window (M * M).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import DropPath, init_transformer

OTHER_REGION = -100.0


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of M x M tokens, with a learned bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", _relative_position_index(window_size))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """[B, windows, T, C] and a mask [windows, T, T] to add to the scores -> [B, windows, T, C]."""
        query, key, value = self.qkv(windows).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        tokens = windows.shape[2]
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(tokens, tokens, -1).permute(2, 0, 1)
        if mask is not None:
            bias = bias + mask[:, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(attended.transpose(2, 3).flatten(3))


class ShiftedWindowAttention(nn.Module):
    """Cuts the (shifted) map into windows, attends inside each, and puts the map together again."""

    def __init__(self, dim: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift = shift
        self.w_msa = WindowAttention(dim, num_heads, window_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        height, width = tokens.shape[1:3]
        side, shift = self.window_size, self.shift
        tokens = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = tokens.shape[1] // side, tokens.shape[2] // side
        mask = None
        if shift:
            tokens = tokens.roll((-shift, -shift), dims=(1, 2))
            mask = self._mask(rows, columns, tokens)
        windows = tokens.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
        attended = self.w_msa(windows.flatten(3, 4).flatten(1, 2), mask)
        attended = attended.unflatten(2, (side, side)).unflatten(1, (rows, columns)).transpose(2, 3)
        tokens = attended.flatten(3, 4).flatten(1, 2)
        if shift:
            tokens = tokens.roll((shift, shift), dims=(1, 2))
        return tokens[:, :height, :width]

    def _mask(self, rows: int, columns: int, tokens: Tensor) -> Tensor:
        """[windows, T, T]: 0 for two tokens of one region, OTHER_REGION for tokens that the roll brought together."""
        regions = [self._regions(count, tokens.device) for count in (rows, columns)]
        region = regions[0][:, None, :, None] * 3 + regions[1][None, :, None, :]
        region = region.flatten(2).flatten(0, 1)
        differs = region[:, :, None] != region[:, None, :]
        return differs.to(tokens.dtype) * OTHER_REGION

    def _regions(self, windows: int, device: torch.device) -> Tensor:
        """[windows, M] region number 0..2 along one axis: the body, the rest of the last window, the rolled part."""
        position = torch.arange(windows * self.window_size, device=device)
        from_end = windows * self.window_size - position
        region = (from_end <= self.window_size).long() + (from_end <= self.shift).long()
        return region.view(windows, self.window_size)


class SwinBlock(nn.Module):
    """Pre-norm block; `ffn.layers` holds the keys of mmcv's FFN."""

    def __init__(
        self, dim: int, num_heads: int, *, window_size: int, shift: int, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ShiftedWindowAttention(dim, num_heads, window_size, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = nn.ModuleDict(
            {"layers": nn.Sequential(nn.Sequential(nn.Linear(dim, hidden), nn.GELU()), nn.Linear(hidden, dim))}
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.ffn["layers"](self.norm2(tokens)))


class PatchEmbed(nn.Module):
    """A 4x4 convolution of stride 4 and a LayerNorm; the image is zero-padded to a multiple of 4 first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, dim, 4, stride=4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, ceil(H/4), ceil(W/4), C]."""
        height, width = image.shape[2:]
        image = F.pad(image, (0, -width % 4, 0, -height % 4))
        return self.norm(self.projection(image).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Joins 2x2 tokens, channel by channel (mmsegmentation's order): LayerNorm(4C), linear 4C -> 2C."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), 2C]; odd sides are zero-padded."""
        height, width = tokens.shape[1:3]
        tokens = F.pad(tokens, (0, 0, 0, width % 2, 0, height % 2))
        squares = tokens.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 5, 2, 4)
        return self.reduction(self.norm(squares.flatten(3)))


class SwinStage(nn.Module):
    """Blocks, every second one shifted by half a window, and the merging that follows all but the last stage."""

    def __init__(self, blocks: list[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


class SwinTransformer(nn.Module):
    """Four stages at strides 4, 8, 16, 32, each output through a LayerNorm of its own.

    Attributes:
        out_channels: channels of the four outputs.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: list[int],
        num_heads: list[int],
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = [embed_dim * 2**index for index in range(len(depths))]
        self.patch_embed = PatchEmbed(embed_dim)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList()
        for index, (width, depth, heads) in enumerate(zip(self.out_channels, depths, num_heads, strict=True)):
            blocks = [
                SwinBlock(
                    width,
                    heads,
                    window_size=window_size,
                    shift=window_size // 2 if block % 2 else 0,
                    mlp_ratio=mlp_ratio,
                    drop_path=next(rates),
                )
                for block in range(depth)
            ]
            self.stages.append(SwinStage(blocks, PatchMerging(width) if index < len(depths) - 1 else None))
        for index, width in enumerate(self.out_channels):
            self.add_module(f"norm{index}", nn.LayerNorm(width))
        self.apply(init_transformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, out_channels[i], ~H / 2**(i+2), ~W / 2**(i+2)]."""
        tokens = self.patch_embed(image)
        outputs = []
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, SwinStage)
            tokens = stage.blocks(tokens)
            outputs.append(getattr(self, f"norm{index}")(tokens).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                tokens = stage.downsample(tokens)
        return outputs


def _relative_position_index(side: int) -> Tensor:
    """[T, T] row of the bias table for each pair: (row difference + M - 1) * (2M - 1) + column difference + M - 1."""
    token = torch.arange(side * side)
    row, column = token // side, token % side
    down = row[:, None] - row[None, :] + side - 1
    right = column[:, None] - column[None, :] + side - 1
    return down * (2 * side - 1) + right


build = SwinTransformer
