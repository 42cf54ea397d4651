"""Mix Transformer (MiT): the hierarchical encoder of SegFormer, with its authors' names.

Paper: arXiv 2105.15203. State-dict keys are those of NVlabs/SegFormer. LayerNorm eps is mixed: 1e-6 in the blocks
and after the stages, 1e-5 in the patch embeddings and after the reducing convolution. There are no position
embeddings, so any image size goes. The same encoder in Hugging Face's names, and all its variants, are in segformer.py.

Letters: B batch, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import DropPath
from segzoo.models.segformer_layers import (
    DepthwiseConv,
    Size,
    attend,
    drop_path_rates,
    each_stage,
    init_segformer,
    to_map,
    to_tokens,
)

EPS = 1e-6


class OverlapPatchEmbed(nn.Module):
    """A strided convolution whose windows overlap, then a LayerNorm."""

    def __init__(self, in_channels: int, dim: int, *, patch_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride, patch_size // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Size]:
        """[B, C_in, H, W] -> tokens [B, N, C] and their (height, width)."""
        features = self.proj(features)
        return self.norm(to_tokens(features)), (features.shape[2], features.shape[3])


class SpatialReductionAttention(nn.Module):
    """Attention whose keys and values come from the map reduced by a convolution of kernel = stride = `sr_ratio`.

    Rows and columns that do not fill a last window of the convolution give no keys; checkpoints depend on it.
    """

    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.q = nn.Linear(dim, dim)
        # The first half of the outputs are keys, the second values.
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        reduced = tokens
        if self.sr_ratio > 1:
            reduced = self.norm(to_tokens(self.sr(to_map(tokens, size))))
        key, value = self.kv(reduced).chunk(2, dim=-1)
        return self.proj(attend(self.q(tokens), key, value, self.num_heads))


class MixFfn(nn.Module):
    """Linear, 3x3 depthwise convolution, exact GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = DepthwiseConv(hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        hidden = to_tokens(self.dwconv(to_map(self.fc1(tokens), size)))
        return self.fc2(F.gelu(hidden))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, num_heads: int, *, mlp_ratio: float, sr_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = SpatialReductionAttention(dim, num_heads, sr_ratio)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = MixFfn(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), size))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens), size))


class MixTransformer(nn.Module):
    """Image -> maps at strides 4, 8, 16 and 32.

    Args:
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        num_heads: heads of each stage's attention.
        sr_ratios: reduction of keys and values in each stage, in each direction.
        mlp_ratio: hidden width of the feed-forward network over the stage's width.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.

    Attributes:
        out_channels: channels of the four maps.
    """

    def __init__(
        self,
        embed_dims: list[int],
        depths: list[int],
        *,
        num_heads: tuple[int, ...] | list[int] = (1, 2, 5, 8),
        sr_ratios: tuple[int, ...] | list[int] = (8, 4, 2, 1),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.out_channels = list(embed_dims)
        stages = range(1, len(embed_dims) + 1)
        for stage, before, dim in zip(stages, [3, *embed_dims], embed_dims, strict=False):
            window = {"patch_size": 7, "stride": 4} if stage == 1 else {"patch_size": 3, "stride": 2}
            self.add_module(f"patch_embed{stage}", OverlapPatchEmbed(before, dim, **window))
        rates = drop_path_rates(drop_path_rate, each_stage("depths", depths, len(embed_dims)))
        words = (("embed_dims", embed_dims), ("num_heads", num_heads), ("sr_ratios", sr_ratios))
        settings = zip(stages, *(each_stage(word, value, len(stages)) for word, value in words), rates, strict=True)
        for stage, dim, heads, sr_ratio, drops in settings:
            blocks = [Block(dim, heads, mlp_ratio=mlp_ratio, sr_ratio=sr_ratio, drop_path=drop) for drop in drops]
            self.add_module(f"block{stage}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage}", nn.LayerNorm(dim, eps=EPS))
        self.apply(init_segformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, C_i, H_i, W_i] for i = 0..3; a stage's normalised output feeds the next stage."""
        outputs: list[Tensor] = []
        features = image
        for stage in range(1, len(self.out_channels) + 1):
            tokens, size = getattr(self, f"patch_embed{stage}")(features)
            for block in getattr(self, f"block{stage}"):
                tokens = block(tokens, size)
            features = to_map(getattr(self, f"norm{stage}")(tokens), size)
            outputs.append(features)
        return outputs


build = MixTransformer
