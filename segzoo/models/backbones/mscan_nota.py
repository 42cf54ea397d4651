"""MSCAN as the NOTA team built it, in the team's names.

It differs from SegNeXt's (mscan.py): downsampling has no norm, batch norms close the stages, the strips of MSCA read
the unit's input, the unit has no shortcut of its own, and batch norms follow the last batch (momentum 0.9).

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segzoo.models.backbones.mscan import LAYER_SCALE, ConvFfn
from segzoo.models.layers import DropPath
from segzoo.models.segformer_layers import drop_path_rates, each_stage, init_segformer
from segzoo.models.strip_attention import TeamMultiScaleUnit


class WrappedNorm(nn.Module):
    """A batch norm; key `norm`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim, momentum=0.9)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.norm(features)


class LayerScale(nn.Module):
    """A learned factor a channel; key `layer_scale`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((dim,), LAYER_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.layer_scale[:, None, None] * features


class MscaBlock(TeamMultiScaleUnit):
    """x + layer scale of the attention unit on the normalised x."""

    def __init__(self, dim: int, *, triple: bool, drop_path: float) -> None:
        super().__init__(dim, triple=triple, norm=WrappedNorm(dim))
        self.layer_scale = LayerScale(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return features + self.drop_path(self.layer_scale(super().forward(self.norm(features))))


class FfnBlock(nn.Module):
    """x + layer scale of the feed-forward network on the normalised x."""

    def __init__(self, dim: int, hidden_dim: int, *, drop_path: float) -> None:
        super().__init__()
        self.norm = WrappedNorm(dim)
        self.ffn = ConvFfn(dim, hidden_dim)
        self.layer_scale = LayerScale(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return features + self.drop_path(self.layer_scale(self.ffn(self.norm(features))))


class StageBlock(nn.Module):
    """Attention, then feed-forward network."""

    def __init__(self, dim: int, *, mlp_ratio: float, triple: bool, drop_path: float) -> None:
        super().__init__()
        self.msca_block = MscaBlock(dim, triple=triple, drop_path=drop_path)
        self.ffn_block = FfnBlock(dim, int(dim * mlp_ratio), drop_path=drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.ffn_block(self.msca_block(features))


def stem(dim: int) -> nn.Sequential:
    """Two 3x3 convolutions of stride 2, each with a batch norm, and a GELU between."""
    return nn.Sequential(
        nn.Conv2d(3, dim // 2, 3, stride=2, padding=1),
        WrappedNorm(dim // 2),
        nn.GELU(),
        nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
        WrappedNorm(dim),
    )


class TeamMSCAN(nn.Module):
    """Image -> maps at strides 4, 8, 16 and 32.

    Args:
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        mlp_ratios: hidden width of the feed-forward network over the stage's width.
        triple: three attentions a block, on the map and on its 3x3 maximum and average.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.

    Attributes:
        out_channels: channels of the four maps.
        path_in_model: where a Segmentor keeps it, the first words of the keys.
    """

    path_in_model = "segnext.encoder"

    def __init__(
        self,
        embed_dims: list[int],
        depths: list[int],
        *,
        mlp_ratios: tuple[float, ...] | list[float] = (8, 8, 4, 4),
        triple: bool = False,
        drop_path_rate: float = 0.2,
    ) -> None:
        super().__init__()
        self.out_channels = list(embed_dims)
        self.patch_embeddings = nn.ModuleList(
            nn.ModuleDict({"proj": stem(dim) if before == 0 else nn.Conv2d(before, dim, 3, stride=2, padding=1)})
            for before, dim in zip([0, *embed_dims[:-1]], embed_dims, strict=True)
        )
        rates = drop_path_rates(drop_path_rate, each_stage("depths", depths, len(embed_dims)))
        ratios = each_stage("mlp_ratios", mlp_ratios, len(embed_dims))
        self.block = nn.ModuleList(
            nn.ModuleList(StageBlock(dim, mlp_ratio=mlp_ratio, triple=triple, drop_path=drop) for drop in drops)
            for dim, mlp_ratio, drops in zip(embed_dims, ratios, rates, strict=True)
        )
        self.layer_norm = nn.ModuleList(WrappedNorm(dim) for dim in embed_dims)
        self.apply(init_segformer)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, C_i, H_i, W_i] for i = 0..3; a stage's normalised output feeds the next stage."""
        outputs: list[Tensor] = []
        features = image
        for index, norm in enumerate(self.layer_norm):
            features = self.patch_embeddings.get_submodule(f"{index}.proj")(features)
            for block in self.block[index].children():
                features = block(features)
            features = norm(features)
            outputs.append(features)
        return outputs


build = TeamMSCAN
