"""MSCA, the convolutional attention of SegNeXt: a 5x5 and three pairs of strip convolutions weigh the input.

Papers: arXiv 2209.08575 (SegNeXt); the NOTA team's form feeds the strips with the input itself in place of the 5x5's
output. All convolutions but the last are depthwise, and all have a bias.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

STRIP_KERNELS = (7, 11, 21)


@dataclass(frozen=True)
class StripNames:
    """State-dict names: the 5x5 convolution, the pairs (1 x k, k x 1) by rising k, the closing 1x1."""

    square: str
    strips: tuple[tuple[str, str], ...]
    mix: str


SEGNEXT_NAMES = StripNames("conv0", (("conv0_1", "conv0_2"), ("conv1_1", "conv1_2"), ("conv2_1", "conv2_2")), "conv3")
TEAM_NAMES = StripNames(
    "conv55", (("conv17_0", "conv17_1"), ("conv111_0", "conv111_1"), ("conv211_0", "conv211_1")), "conv11"
)


class StripAttention(nn.Module):
    """Multi-scale convolutional attention: mix(c + s7 + s11 + s21) times the gated map.

    Args:
        dim: channels.
        names: of the convolutions.
        chained: the strips read c, the output of the 5x5 convolution; else the input.
    """

    def __init__(self, dim: int, names: StripNames, *, chained: bool) -> None:
        super().__init__()
        self.names = names
        self.chained = chained
        self.add_module(names.square, nn.Conv2d(dim, dim, 5, padding=2, groups=dim))
        for kernel, (across, down) in zip(STRIP_KERNELS, names.strips, strict=True):
            reach = kernel // 2
            self.add_module(across, nn.Conv2d(dim, dim, (1, kernel), padding=(0, reach), groups=dim))
            self.add_module(down, nn.Conv2d(dim, dim, (kernel, 1), padding=(reach, 0), groups=dim))
        self.add_module(names.mix, nn.Conv2d(dim, dim, 1))

    def forward(self, features: Tensor, gated: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]; the weights come from `features` and go on `gated` (None: on `features`)."""
        square = getattr(self, self.names.square)(features)
        source = square if self.chained else features
        total = square
        for across, down in self.names.strips:
            total = total + getattr(self, down)(getattr(self, across)(source))
        return getattr(self, self.names.mix)(total) * (features if gated is None else gated)


class MultiScaleUnit(nn.Module):
    """SegNeXt's attention unit: 1x1 convolution, GELU, MSCA, 1x1 convolution, plus the unit's own input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.spatial_gating_unit = StripAttention(dim, SEGNEXT_NAMES, chained=True)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(features)))) + features


class TeamMultiScaleUnit(nn.Module):
    """The NOTA team's unit: strips on the input, and no shortcut around the unit.

    Args:
        dim: channels.
        triple: two more MSCAs read the 3x3 maximum and average of the map (the average counts padding as zeros);
            all three weigh the map itself and are summed.
        norm: a norm to hold under the key `norm`, for the user of the unit.
    """

    def __init__(self, dim: int, *, triple: bool = False, norm: nn.Module | None = None) -> None:
        super().__init__()
        if norm is not None:
            self.norm = norm
        self.triple = triple
        self.proj1 = nn.Conv2d(dim, dim, 1)
        self.msca = StripAttention(dim, TEAM_NAMES, chained=False)
        if triple:
            self.max_msca = StripAttention(dim, TEAM_NAMES, chained=False)
            self.avg_msca = StripAttention(dim, TEAM_NAMES, chained=False)
        self.proj2 = nn.Conv2d(dim, dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        hidden = F.gelu(self.proj1(features))
        weighed = self.msca(hidden)
        if self.triple:
            weighed = weighed + self.max_msca(F.max_pool2d(hidden, 3, stride=1, padding=1), hidden)
            weighed = weighed + self.avg_msca(F.avg_pool2d(hidden, 3, stride=1, padding=1), hidden)
        return self.proj2(weighed)
