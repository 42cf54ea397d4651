"""ResNet with bottleneck blocks, a stem of three 3x3 convolutions (v1c), and dilated late stages.

Papers: arXiv 1512.03385, 1812.01187 (stem). State-dict keys are those of mmsegmentation's ResNetV1c.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers import fold_norm

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride and the dilation), 1x1 convolution, each with a batch norm; residual."""

    def __init__(self, in_channels: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, 4 * width, H', W']."""
        shortcut = features if self.downsample is None else self.downsample(features)
        branch = F.relu(self.bn1(self.conv1(features)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        return F.relu(self.bn3(self.conv3(branch)) + shortcut)

    def fuse(self) -> None:
        """Folds every batch norm into the convolution before it."""
        for index in (1, 2, 3):
            fold_norm(self, f"conv{index}", f"bn{index}")
        if self.downsample is not None:
            fold_norm(self.downsample, "0", "1")


class ResNet(nn.Module):
    """Four stages of bottleneck blocks.

    Args:
        depths: blocks of each stage, (3, 4, 6, 3) for ResNet-50.
        strides: stride of each stage's first block, after the stem's 4.
        dilations: dilation of each stage's 3x3 convolutions.
        contract_dilation: the first block of a dilated stage takes half its dilation.

    Attributes:
        out_channels: channels of the four outputs.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...] | list[int] = (3, 4, 6, 3),
        strides: tuple[int, ...] | list[int] = (1, 2, 2, 2),
        dilations: tuple[int, ...] | list[int] = (1, 1, 1, 1),
        contract_dilation: bool = True,
    ) -> None:
        super().__init__()
        self.out_channels = [EXPANSION * 64 * 2**index for index in range(len(depths))]
        self.stem = nn.Sequential(*_conv_bn_relu(3, 32, 2), *_conv_bn_relu(32, 32, 1), *_conv_bn_relu(32, 64, 1))
        in_channels = 64
        for index, (depth, stride, dilation) in enumerate(zip(depths, strides, dilations, strict=True)):
            first = dilation // 2 if dilation > 1 and contract_dilation else dilation
            blocks = [
                Bottleneck(
                    in_channels if block == 0 else self.out_channels[index],
                    64 * 2**index,
                    stride=stride if block == 0 else 1,
                    dilation=first if block == 0 else dilation,
                )
                for block in range(depth)
            ]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            in_channels = self.out_channels[index]
        self.apply(_init)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, out_channels[i], H_i, W_i]."""
        features = F.max_pool2d(self.stem(image), 3, stride=2, padding=1)
        outputs = []
        for index in range(len(self.out_channels)):
            features = getattr(self, f"layer{index + 1}")(features)
            outputs.append(features)
        return outputs

    def fuse(self) -> None:
        """Folds the stem's batch norms; the blocks fold their own."""
        for index in (0, 3, 6):
            fold_norm(self.stem, str(index), str(index + 1))


def _conv_bn_relu(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


build = ResNet
