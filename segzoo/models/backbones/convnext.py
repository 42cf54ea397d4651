"""ConvNeXt: residual blocks of a 7x7 depthwise convolution and a two-layer perceptron.

Paper: arXiv 2201.03545. State-dict keys are those of mmclassification's ConvNeXt as mmsegmentation uses
it. LayerNorm eps is 1e-6 everywhere.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import DropPath

EPS = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, LayerNorm, C -> 4C -> C with GELU, layer scale `gamma`, residual."""

    def __init__(self, dim: int, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        self.depthwise_conv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.pointwise_conv1 = nn.Linear(dim, 4 * dim)
        self.pointwise_conv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        tokens = self.norm(self.depthwise_conv(features).permute(0, 2, 3, 1))
        tokens = self.pointwise_conv2(F.gelu(self.pointwise_conv1(tokens)))
        return features + self.drop_path((self.gamma * tokens).permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    """Four stages at strides 4, 8, 16, 32, each output through a LayerNorm of its own.

    Attributes:
        out_channels: channels of the four outputs.
    """

    def __init__(
        self, *, dims: list[int], depths: list[int], drop_path_rate: float = 0.0, layer_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.out_channels = list(dims)
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), LayerNorm2d(dims[0], eps=EPS))]
        )
        for before, after in itertools.pairwise(dims):
            self.downsample_layers.append(
                nn.Sequential(LayerNorm2d(before, eps=EPS), nn.Conv2d(before, after, 2, stride=2))
            )
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(width, next(rates), layer_scale) for _ in range(depth)))
            for width, depth in zip(dims, depths, strict=True)
        )
        for index, width in enumerate(dims):
            self.add_module(f"norm{index}", LayerNorm2d(width, eps=EPS))
        self.apply(_init)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, out_channels[i], ~H / 2**(i+2), ~W / 2**(i+2)]."""
        outputs = []
        for index, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            image = stage(down(image))
            outputs.append(getattr(self, f"norm{index}")(image))
        return outputs


def _init(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


build = ConvNeXt
