"""The fully convolutional head that serves as auxiliary head in training.

Paper: arXiv 1411.4038. State-dict keys are those of mmsegmentation's FCNHead.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from segzoo.models.layers import ConvNormAct, init_classifier


class FCNHead(nn.Module):
    """One of the backbone's maps -> 3x3 convolutions -> logits at that map's size.

    Args:
        in_channels: channels of all the backbone's maps.
        num_classes: number of classes.
        in_index: which map is read.
        channels: width of the head.
        num_convs: number of 3x3 convolutions.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        in_index: int = 2,
        channels: int = 256,
        num_convs: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_index = in_index
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.dropout = nn.Dropout2d(dropout)
        widths = [in_channels[in_index]] + [channels] * num_convs
        self.convs = nn.Sequential(
            *(ConvNormAct(before, after, 3, padding=1) for before, after in itertools.pairwise(widths))
        )
        init_classifier(self.conv_seg)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each map -> [B, K, H_in_index, W_in_index]."""
        return self.conv_seg(self.dropout(self.convs(features[self.in_index])))


build = FCNHead
