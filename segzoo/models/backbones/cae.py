"""CAE's segmentation backbone: a plain ViT with relative position bias and a small pyramid on top.

Paper: arXiv 2202.03026. State-dict keys are those of lxtGH/CAE, downstream_tasks/semantic_segmentation.
LayerNorm eps is 1e-6, BatchNorm eps 1e-5; every GELU is the exact (erf) one.

Letters: B batch, C channels, H height, W width, T tokens (1 + patches).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.layers import DropPath, Mlp, init_transformer

_NORM_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """A convolution whose kernel is its stride; rows and columns that fill no patch are dropped."""

    def __init__(self, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_size, patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H // patch, W // patch]."""
        return self.proj(image)


class BiasedAttention(nn.Module):
    """Self-attention with a bias for each pair of positions, from a table of this block's own.

    The query and the value have a bias, the key has none. The table's last three rows are for the class
    token: as query, as key, and with itself.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, position_index: Tensor) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        side = int((position_index.shape[0] - 1) ** 0.5)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, num_heads))
        self.register_buffer("relative_position_index", position_index)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(tokens, self.qkv.weight, bias)
        query, key, value = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        position_bias = self.relative_position_bias_table.t()[:, self.relative_position_index]
        # The default scale, head_dim ** -0.5, is applied before the bias is added.
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=position_bias[None].to(query.dtype))
        return self.proj(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block with a learned scale for each channel of both branches."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        layer_scale: float,
        drop_path: float,
        position_index: Tensor,
    ) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma_2 = nn.Parameter(torch.full((dim,), layer_scale))
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = BiasedAttention(dim, num_heads, position_index)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        tokens = tokens + self.drop_path(self.gamma_1 * self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.gamma_2 * self.mlp(self.norm2(tokens)))


class CAE(nn.Module):
    """ViT whose tokens after four of its blocks become maps at strides 4, 8, 16, 32, without a final norm.

    The position embedding is part of every checkpoint and is never trained. It starts as the 2-D sine and
    cosine table of this grid; the original starts from random noise there, which matters only when
    training begins without a pretraining checkpoint.

    Args:
        image_size: side in pixels of the square input; the position embedding fits no other grid.
        out_indices: the blocks, from 0, whose outputs are taken.

    Attributes:
        out_channels: channels of the four outputs.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        out_indices: list[int],
        image_size: int = 512,
        patch_size: int = 16,
        mlp_ratio: float = 4.0,
        layer_scale: float = 0.1,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(out_indices) != 4 or sorted(set(out_indices)) != list(out_indices) or out_indices[-1] >= depth:
            raise ValueError(f"out_indices are four rising numbers below depth {depth}, not {out_indices}")
        self.patch_size = patch_size
        self.side = image_size // patch_size
        self.out_indices = list(out_indices)
        self.out_channels = [embed_dim] * 4
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.as_tensor(sine_cosine_positions(self.side, embed_dim)), requires_grad=False)
        self.patch_embed = PatchEmbedding(embed_dim, patch_size)
        # One tensor for all blocks: 8 MB at 512 pixels.
        index = torch.as_tensor(relative_position_index(self.side))
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                layer_scale=layer_scale,
                drop_path=rate,
                position_index=index,
            )
            for rate in np.linspace(0.0, drop_path_rate, depth).tolist()
        )
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2),
            nn.BatchNorm2d(embed_dim),
            nn.GELU(),
            nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2))
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(2, 2)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.apply(init_transformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, C, h, w], h = w = side * 4, side * 2, side and side // 2.

        Raises:
            UsageError: H and W do not give the grid of patches that the position embedding is for.
        """
        patches = self.patch_embed(image)
        if patches.shape[2:] != (self.side, self.side):
            size = self.side * self.patch_size
            height, width = image.shape[2:]
            raise UsageError(
                f"CAE takes {size}x{size} pixels, not {height}x{width}: its positions are for "
                f"{self.side}x{self.side} patches; use its sliding-window protocol, on images with no side "
                f"below {size} after the resize (at most 4 times as long as high)"
            )
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.pos_embed
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.out_indices:
                maps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side)))
        return [level(one) for level, one in zip((self.fpn1, self.fpn2, self.fpn3, self.fpn4), maps, strict=True)]


def relative_position_index(side: int) -> np.ndarray:
    """Row of the bias table for each pair of tokens, int64 [1 + side**2, 1 + side**2].

    Patches a (query) and b (key) at (row, column) share row (ra - rb + side - 1) * (2 * side - 1) +
    (ca - cb + side - 1); the three rows after those are for the class token.
    """
    rows, columns = np.divmod(np.arange(side**2), side)
    span = 2 * side - 1
    index = np.empty((side**2 + 1, side**2 + 1), dtype=np.int64)
    index[1:, 1:] = (rows[:, None] - rows + side - 1) * span + (columns[:, None] - columns + side - 1)
    index[0, :] = span**2
    index[:, 0] = span**2 + 1
    index[0, 0] = span**2 + 2
    return index


def sine_cosine_positions(side: int, dim: int) -> np.ndarray:
    """The 2-D position embedding of CAE's pretraining, float32 [1, 1 + side**2, dim]; zeros for the class token.

    The quarters of the channels are the sine and cosine of the row, then of the column, at the
    wavelengths 10000 ** (k / (dim / 4)).
    """
    if dim % 4:
        raise ValueError(f"the 2-D position embedding needs a width that is a multiple of 4, not {dim}")
    rates = 10000.0 ** (-np.arange(dim // 4) / (dim // 4))
    rows, columns = np.divmod(np.arange(side**2), side)
    angles = [rows[:, None] * rates, columns[:, None] * rates]
    patches = np.concatenate([part for angle in angles for part in (np.sin(angle), np.cos(angle))], axis=1)
    return np.concatenate([np.zeros((1, dim)), patches])[None].astype(np.float32)


build = CAE
