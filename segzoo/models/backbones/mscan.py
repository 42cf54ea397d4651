"""MSCAN: the convolutional encoder of SegNeXt.

Paper: arXiv 2209.08575. State-dict keys are those of Visual-Attention-Network/SegNeXt. BatchNorm and LayerNorm eps
are 1e-5. The NOTA team's form of it is mscan_nota.py.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import DropPath
from segzoo.models.segformer_layers import DepthwiseConv, drop_path_rates, each_stage, init_segformer
from segzoo.models.strip_attention import MultiScaleUnit

LAYER_SCALE = 1e-2


class Stem(nn.Module):
    """Two 3x3 convolutions of stride 2, each with a batch norm, and a GELU between; key `proj`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, dim // 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(dim // 2),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
            nn.BatchNorm2d(dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H / 4, W / 4]."""
        return self.proj(image)


class Downsampling(nn.Module):
    """A 3x3 convolution of stride 2 and a batch norm."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C, H / 2, W / 2]."""
        return self.norm(self.proj(features))


class ConvFfn(nn.Module):
    """1x1 convolution, 3x3 depthwise convolution, exact GELU, 1x1 convolution."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = DepthwiseConv(hidden_dim)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(features))))


class Block(nn.Module):
    """Batch norm, attention unit, layer scale; batch norm, feed-forward network, layer scale."""

    def __init__(self, dim: int, *, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = MultiScaleUnit(dim)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = ConvFfn(dim, int(dim * mlp_ratio))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        branch = self.layer_scale_1[:, None, None] * self.attn(self.norm1(features))
        features = features + self.drop_path(branch)
        branch = self.layer_scale_2[:, None, None] * self.mlp(self.norm2(features))
        return features + self.drop_path(branch)


class MSCAN(nn.Module):
    """Image -> maps at strides 4, 8, 16 and 32.

    Args:
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        mlp_ratios: hidden width of the feed-forward network over the stage's width.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.

    Attributes:
        out_channels: channels of the four maps.
    """

    def __init__(
        self,
        embed_dims: list[int],
        depths: list[int],
        *,
        mlp_ratios: tuple[float, ...] | list[float] = (8, 8, 4, 4),
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.out_channels = list(embed_dims)
        rates = drop_path_rates(drop_path_rate, each_stage("depths", depths, len(embed_dims)))
        ratios = each_stage("mlp_ratios", mlp_ratios, len(embed_dims))
        settings = zip(embed_dims, [0, *embed_dims[:-1]], ratios, rates, strict=True)
        for stage, (dim, before, mlp_ratio, drops) in enumerate(settings, start=1):
            self.add_module(f"patch_embed{stage}", Stem(dim) if stage == 1 else Downsampling(before, dim))
            blocks = [Block(dim, mlp_ratio=mlp_ratio, drop_path=drop) for drop in drops]
            self.add_module(f"block{stage}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage}", nn.LayerNorm(dim))
        self.apply(init_segformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, C_i, H_i, W_i] for i = 0..3; a stage's normalised output feeds the next stage."""
        outputs: list[Tensor] = []
        features = image
        for stage in range(1, len(self.out_channels) + 1):
            features = getattr(self, f"patch_embed{stage}")(features)
            for block in getattr(self, f"block{stage}"):
                features = block(features)
            norm = getattr(self, f"norm{stage}")
            features = norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            outputs.append(features)
        return outputs


build = MSCAN
