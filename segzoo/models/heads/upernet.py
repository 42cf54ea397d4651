"""UPerNet's decode head: pyramid pooling on the deepest map, a feature pyramid over all, one fused map.

Paper: arXiv 1807.10221. State-dict keys are those of mmsegmentation's UPerHead.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segzoo.models.layers import ConvNormAct, init_classifier, resize


class UPerNetHead(nn.Module):
    """Feature maps at strides 4, 8, 16, 32 -> logits at stride 4.

    Args:
        in_channels: channels of the maps, shallow to deep.
        num_classes: number of classes.
        channels: width of the head.
        pool_scales: output sides of the pyramid pooling.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        channels: int = 512,
        pool_scales: tuple[int, ...] | list[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *shallow, deepest = in_channels
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvNormAct(deepest, channels, 1)) for scale in pool_scales
        )
        self.bottleneck = ConvNormAct(deepest + len(pool_scales) * channels, channels, 3, padding=1)
        self.lateral_convs = nn.ModuleList(ConvNormAct(width, channels, 1) for width in shallow)
        self.fpn_convs = nn.ModuleList(ConvNormAct(channels, channels, 3, padding=1) for _ in shallow)
        self.fpn_bottleneck = ConvNormAct(len(in_channels) * channels, channels, 3, padding=1)
        init_classifier(self.conv_seg)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each map -> [B, K, H_0, W_0]."""
        *shallow, deepest = features
        laterals = [conv(feature) for conv, feature in zip(self.lateral_convs, shallow, strict=True)]
        laterals.append(self._pool_pyramid(deepest))
        for index in range(len(laterals) - 1, 0, -1):
            above = laterals[index - 1]
            laterals[index - 1] = above + resize(laterals[index], above.shape[2:])
        maps = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals[:-1], strict=True)]
        maps.append(laterals[-1])
        fused = self.fpn_bottleneck(torch.cat([resize(feature, maps[0].shape[2:]) for feature in maps], dim=1))
        return self.conv_seg(self.dropout(fused))

    def _pool_pyramid(self, deepest: Tensor) -> Tensor:
        pooled = [resize(module(deepest), deepest.shape[2:]) for module in self.psp_modules]
        return self.bottleneck(torch.cat([deepest, *pooled], dim=1))


build = UPerNetHead
