"""Feature pyramid network: maps of any widths at strides 4, 8, 16, 32 -> maps of one width.

Paper: arXiv 1612.03144. State-dict keys are those of mmsegmentation's FPN (without extra levels).

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """1x1 lateral convolutions, a top-down sum, and a 3x3 convolution on each level; no norm, no activation.

    Attributes:
        out_channels: channels of the outputs, one for each input map.
    """

    def __init__(self, in_channels: list[int], *, channels: int = 256) -> None:
        super().__init__()
        self.out_channels = [channels] * len(in_channels)
        self.lateral_convs = nn.ModuleList(_plain_conv(width, channels, 1) for width in in_channels)
        self.fpn_convs = nn.ModuleList(_plain_conv(channels, channels, 3) for _ in in_channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """[B, C_i, H_i, W_i] for each map, shallow to deep -> [B, channels, H_i, W_i] for each."""
        laterals = [conv(feature) for conv, feature in zip(self.lateral_convs, features, strict=True)]
        for index in range(len(laterals) - 1, 0, -1):
            above = laterals[index - 1]
            # To the size of the map above, not by a factor: odd sizes are not halves of each other.
            laterals[index - 1] = above + F.interpolate(laterals[index], size=above.shape[2:], mode="nearest")
        return [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True)]


def _plain_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution under the key `conv`, as the authors' checkpoints have it."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(OrderedDict(conv=conv))


build = FeaturePyramid
