"""DeiT with a distillation token: a plain vision transformer whose inner maps are read at three depths.

Paper: arXiv 2012.12877. State-dict keys are those of timm's distilled vision transformer as
amazon-research/unified-ept uses it: no final norm, no classifiers. LayerNorm eps is 1e-6.

Letters: B batch, C channels, H height, W width, T tokens (2 + patches).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.layers import Mlp, init_transformer
from segzoo.models.vit_attention import FusedAttention

_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """A convolution whose kernel is its stride."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, patches, C], row-major."""
        return self.proj(image).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = FusedAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class DistilledVisionTransformer(nn.Module):
    """Outputs of the blocks in `out_indices` (counted from 0) as maps at the stride of a patch.

    Attributes:
        out_channels: channels of the outputs.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        image_size: int = 480,
        patch_size: int = 16,
        out_indices: tuple[int, ...] | list[int] = (3, 7, 11),
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.side = image_size // patch_size
        self.out_indices = list(out_indices)
        self.out_channels = [embed_dim] * len(self.out_indices)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 + self.side**2, embed_dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.patch_embed = PatchEmbedding(embed_dim, patch_size)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        for token in (self.cls_token, self.pos_embed, self.dist_token):
            nn.init.trunc_normal_(token, std=0.02)
        self.apply(init_transformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, image_size, image_size] -> maps [B, C, side, side].

        Raises:
            UsageError: an image of any other size; the position table is for one size.
        """
        if tuple(image.shape[2:]) != (self.image_size, self.image_size):
            raise UsageError(
                f"this DeiT takes {self.image_size}x{self.image_size} pixels, not {image.shape[2]}x{image.shape[3]}; "
                "evaluate it in sliding windows of that size"
            )
        batch = image.shape[0]
        first = [self.cls_token.expand(batch, -1, -1), self.dist_token.expand(batch, -1, -1)]
        tokens = torch.cat([*first, self.patch_embed(image)], dim=1) + self.pos_embed
        outputs = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.out_indices:
                patches = tokens[:, 2:].transpose(1, 2)
                outputs.append(patches.unflatten(2, (self.side, self.side)))
        return outputs


build = DistilledVisionTransformer
