"""SegNeXt's decode head: the three deeper maps, squeezed, through Hamburger's matrix factorisation.

Papers: arXiv 2209.08575 (SegNeXt), 2109.04553 (Hamburger). State-dict keys are those of
Visual-Attention-Network/SegNeXt. The logits have stride 8, the stride of the first map that is read.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import init_classifier, resize
from segzoo.models.matrix_decomposition import MatrixDecomposition


class ConvGroupNorm(nn.Module):
    """1x1 convolution without bias, group norm of 32 groups and, where `act`, ReLU; keys `conv` and `gn`."""

    def __init__(self, in_channels: int, out_channels: int, *, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.gn = nn.GroupNorm(32, out_channels)
        self.act = act

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        features = self.gn(self.conv(features))
        return F.relu(features) if self.act else features


class Hamburger(nn.Module):
    """Linear, ReLU, matrix factorisation, linear, group norm; added to the input."""

    def __init__(self, channels: int, *, rank: int, seed: int) -> None:
        super().__init__()
        self.ham_in = nn.ModuleDict({"conv": nn.Conv2d(channels, channels, 1)})
        self.ham = MatrixDecomposition(channels, rank, seed=seed)
        self.ham_out = ConvGroupNorm(channels, channels, act=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        hidden = F.relu(self.ham_in["conv"](features))
        return F.relu(features + self.ham_out(self.ham(hidden)))


class LightHamHead(nn.Module):
    """Maps at strides 4 to 32 -> logits at stride 8; the first map is not read.

    Args:
        in_channels: channels of all the maps, shallow to deep.
        num_classes: number of classes.
        channels: width before the classifier.
        ham_channels: width of the factorisation; None is `channels`.
        rank: number of bases.
        bases_seed: what the bases of evaluation are drawn from.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        channels: int = 256,
        ham_channels: int | None = None,
        rank: int = 64,
        bases_seed: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width = channels if ham_channels is None else ham_channels
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.squeeze = ConvGroupNorm(sum(in_channels[1:]), width)
        self.hamburger = Hamburger(width, rank=rank, seed=bases_seed)
        self.align = ConvGroupNorm(width, channels)
        init_classifier(self.conv_seg)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each map -> [B, K, H_1, W_1]."""
        deeper = features[1:]
        squeezed = self.squeeze(torch.cat([resize(feature, deeper[0].shape[2:]) for feature in deeper], dim=1))
        return self.conv_seg(self.dropout(self.align(self.hamburger(squeezed))))


build = LightHamHead
