"""Semantic FPN's decode head: every pyramid level brought up to stride 4, then summed.

Paper: arXiv 1901.02446. State-dict keys are those of mmsegmentation's FPNHead.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from segzoo.models.layers import ConvNormAct, init_classifier, resize


class SemanticFPNHead(nn.Module):
    """Pyramid levels -> logits at the first level's size.

    Level i has one 3x3 convolution for each doubling that brings it to the first level's stride (at
    least one), each followed by a bilinear upsampling by 2.

    Args:
        in_channels: channels of the levels, shallow to deep.
        num_classes: number of classes.
        feature_strides: strides of the levels in pixels.
        channels: width of the head.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        feature_strides: tuple[int, ...] | list[int] = (4, 8, 16, 32),
        channels: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(feature_strides) != len(in_channels) or min(feature_strides) != feature_strides[0]:
            raise ValueError(
                f"feature_strides {list(feature_strides)}: one for each of the {len(in_channels)} levels, "
                "the smallest first"
            )
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.scale_heads = nn.ModuleList(
            _scale_head(width, channels, stride // feature_strides[0])
            for width, stride in zip(in_channels, feature_strides, strict=True)
        )
        init_classifier(self.conv_seg)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each level -> [B, K, H_0, W_0]."""
        scaled = [head(feature) for head, feature in zip(self.scale_heads, features, strict=True)]
        fused = scaled[0]
        for level in scaled[1:]:
            fused = fused + resize(level, fused.shape[2:])
        return self.conv_seg(self.dropout(fused))


def _scale_head(in_channels: int, channels: int, factor: int) -> nn.Sequential:
    """Convolutions and upsamplings by 2 in turn; the upsamplings count in the keys (0, 2, 4)."""
    layers: list[nn.Module] = []
    for index in range(max(1, int(math.log2(factor)))):
        layers.append(ConvNormAct(channels if index else in_channels, channels, 3, padding=1))
        if factor > 1:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


build = SemanticFPNHead
