"""SegFormer's all-MLP decode head, with its authors' names.

Paper: arXiv 2105.15203. State-dict keys are those of NVlabs/SegFormer; `conv_seg` is in every published checkpoint
and never used. The same head in Hugging Face's names is all_mlp.py.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segzoo.models.layers import ConvNormAct, init_classifier, resize
from segzoo.models.segformer_layers import to_map, to_tokens

UNUSED_CHANNELS = 128


class MapLinear(nn.Module):
    """A linear layer on the channels of a map; key `proj`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        return to_map(self.proj(to_tokens(features)), (features.shape[2], features.shape[3]))


class SegFormerHead(nn.Module):
    """Every map to one width and the first map's size, concatenated from deep to shallow, fused by a 1x1 convolution.

    Args:
        in_channels: channels of the maps, shallow to deep.
        num_classes: number of classes.
        embed_dim: the common width.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(self, in_channels: list[int], num_classes: int, *, embed_dim: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(UNUSED_CHANNELS, num_classes, 1)
        self.dropout = nn.Dropout2d(dropout)
        for index in range(len(in_channels), 0, -1):
            self.add_module(f"linear_c{index}", MapLinear(in_channels[index - 1], embed_dim))
        self.linear_fuse = ConvNormAct(len(in_channels) * embed_dim, embed_dim, 1)
        self.linear_pred = nn.Conv2d(embed_dim, num_classes, 1)
        init_classifier(self.conv_seg)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each map -> [B, K, H_0, W_0]."""
        size = features[0].shape[2:]
        maps = [getattr(self, f"linear_c{index}")(feature) for index, feature in enumerate(features, start=1)]
        fused = self.linear_fuse(torch.cat([resize(feature, size) for feature in reversed(maps)], dim=1))
        return self.linear_pred(self.dropout(fused))


build = SegFormerHead
