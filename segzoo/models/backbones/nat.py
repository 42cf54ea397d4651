"""NAT and DiNAT: hierarchical transformers of (dilated) neighborhood attention.

Papers: arXiv 2204.07143 (NAT), 2209.15001 (DiNAT). State-dict keys are those of
SHI-Labs/Neighborhood-Attention-Transformer. LayerNorm eps is 1e-5 everywhere.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from segzoo.models.layers import init_transformer, neighborhood_stages, run_stages


class ConvTokenizer(nn.Module):
    """Two 3x3 convolutions of stride 2 with nothing between, then a LayerNorm: a map at stride 4."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, embed_dim // 2, 3, stride=2, padding=1),
            nn.Conv2d(embed_dim // 2, embed_dim, 3, stride=2, padding=1),
        )
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, ceil(H/4), ceil(W/4), C]."""
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class ConvDownsampler(nn.Module):
    """A 3x3 convolution of stride 2 without bias that doubles the channels, then a LayerNorm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), 2C]."""
        return self.norm(self.reduction(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class NeighborhoodAttentionTransformer(nn.Module):
    """NAT / DiNAT: four stages at strides 4, 8, 16, 32, each output through a LayerNorm of its own.

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
        mlp_ratio: float = 3.0,
        dilations: list[list[int]] | None = None,
        layer_scale: float | None = None,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = [embed_dim * 2**index for index in range(len(depths))]
        self.patch_embed = ConvTokenizer(embed_dim)
        self.levels = neighborhood_stages(
            embed_dim,
            depths,
            num_heads,
            kernel_size=kernel_size,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            dilations=dilations,
            layer_scale=layer_scale,
            downsampler=ConvDownsampler,
        )
        for index, channels in enumerate(self.out_channels):
            self.add_module(f"norm{index}", nn.LayerNorm(channels))
        self.apply(init_transformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, out_channels[i], ~H / 2**(i+2), ~W / 2**(i+2)]."""
        norms = [getattr(self, f"norm{index}") for index in range(len(self.levels))]
        return run_stages(self.levels, norms, self.patch_embed(image))


build = NeighborhoodAttentionTransformer
