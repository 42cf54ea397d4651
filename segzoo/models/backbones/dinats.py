"""DiNATs: Swin's layout (4x4 patches, patch merging) with dilated neighborhood attention.

Paper: arXiv 2209.15001. State-dict keys are those of SHI-Labs/Neighborhood-Attention-Transformer.
LayerNorm eps is 1e-5 everywhere.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import init_transformer, neighborhood_stages, run_stages

PATCH = 4


class PatchEmbed(nn.Module):
    """A 4x4 convolution of stride 4 and a LayerNorm; the image is zero-padded to a multiple of 4 first."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, ceil(H/4), ceil(W/4), C]."""
        height, width = image.shape[2:]
        image = F.pad(image, (0, -width % PATCH, 0, -height % PATCH))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Joins each 2x2 square of tokens, top to bottom before left to right: LayerNorm(4C), linear 4C -> 2C."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), 2C]; odd sides are zero-padded."""
        height, width = tokens.shape[1:3]
        tokens = F.pad(tokens, (0, 0, 0, width % 2, 0, height % 2))
        quarters = [tokens[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(quarters, dim=-1)))


class DilatedNeighborhoodTransformer(nn.Module):
    """DiNATs: four stages at strides 4, 8, 16, 32, each output through a LayerNorm of its own.

    Attributes:
        out_channels: channels of the four outputs.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: list[int],
        num_heads: list[int],
        kernel_size: int = 7,
        mlp_ratio: float = 4.0,
        dilations: list[list[int]] | None = None,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = [embed_dim * 2**index for index in range(len(depths))]
        self.patch_embed = PatchEmbed(embed_dim)
        self.layers = neighborhood_stages(
            embed_dim,
            depths,
            num_heads,
            kernel_size=kernel_size,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            dilations=dilations,
            layer_scale=None,
            downsampler=PatchMerging,
        )
        for index, channels in enumerate(self.out_channels):
            self.add_module(f"norm{index}", nn.LayerNorm(channels))
        self.apply(init_transformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, out_channels[i], ~H / 2**(i+2), ~W / 2**(i+2)]."""
        norms = [getattr(self, f"norm{index}") for index in range(len(self.layers))]
        return run_stages(self.layers, norms, self.patch_embed(image))


build = DilatedNeighborhoodTransformer
