"""RecNeXt: recursive depthwise convolutions (M series) or linear attention (A series) as token mixer.

Paper: arXiv 2412.19628. State-dict keys are those of suous/RecNeXt, before and after folding.
BatchNorm eps is 1e-5 everywhere.

Letters: B batch, C channels, H height, W width, N positions, D channels of a head.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution without bias and a batch norm, keys `conv` and `norm`; `folded` makes one convolution of both."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def folded(self) -> nn.Conv2d:
        """The same function in evaluation mode as one convolution with bias."""
        return torch.nn.utils.fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())


class RecursiveConv(nn.Module):
    """Depthwise convolutions on a pyramid of the map, summed from coarse to fine.

    One stride-2 convolution is shared by all `levels` steps down; each level has a convolution of its own.
    """

    def __init__(self, dim: int, *, levels: int, kernel_size: int = 5) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.down = nn.Conv2d(dim, dim, kernel_size, 2, padding, groups=dim, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(dim, dim, kernel_size, 1, padding, groups=dim, bias=False) for _ in range(levels + 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        pyramid = [features]
        for _ in range(len(self.convs) - 1):
            pyramid.append(self.down(pyramid[-1]))
        mixed = self.convs[0](pyramid.pop())
        for conv in list(self.convs)[1:]:
            finer = pyramid.pop()
            # Up to the finer map's own size: the step down rounds odd sizes up.
            upsampled = F.interpolate(mixed, size=finer.shape[2:], mode="bilinear", align_corners=False)
            mixed = conv(finer + upsampled)
        return mixed


class LinearAttention(nn.Module):
    """Attention with the kernel elu + 1 in place of the softmax, plus a depthwise convolution of the values.

    The values are the input itself. `quadratic` forms the N x N weights first, which the original does
    where the map is small; the order of the products changes the cost and the rounding alone.
    """

    def __init__(self, dim: int, num_heads: int, *, quadratic: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.quadratic = quadratic
        self.qk = ConvNorm(dim, 2 * dim, 1, groups=2)
        self.pe = ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        positions = features.shape[2] * features.shape[3]
        # [B, heads, D, N] each; the mean over positions keeps sums small for half precision.
        query, key = (F.elu(self.qk(features)) + 1.0).flatten(2).unflatten(1, (2, self.num_heads, -1)).unbind(1)
        value = features.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(-1, -2) * positions**-0.5
        query = query.transpose(-1, -2)
        if self.quadratic:
            weights = query @ key
            weights = weights / (weights.mean(dim=-1, keepdim=True) + 1e-6)
            attended = (weights * positions**-0.5) @ value
        else:
            norm = query @ key.mean(dim=-1, keepdim=True) + 1e-6
            attended = query @ ((key * positions**-0.5) @ value) / norm
        return attended.transpose(-1, -2).reshape(features.shape) + self.pe(features)


class RecursiveAttention(nn.Module):
    """Linear attention on the map at half size, nearest upsampling, and a depthwise convolution of the sum."""

    def __init__(self, dim: int, num_heads: int, *, quadratic: bool, kernel_size: int = 5) -> None:
        super().__init__()
        self.down = nn.Sequential(
            ConvNorm(dim, dim, kernel_size, stride=2, groups=dim),
            LinearAttention(dim, num_heads, quadratic=quadratic),
        )
        self.conv = ConvNorm(dim, dim, kernel_size, groups=dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        coarse = F.interpolate(self.down(features), size=features.shape[2:], mode="nearest")
        return self.conv(features + coarse)


class RecursiveConvBlock(nn.Module):
    """M series: input + channel_mixer(norm(token_mixer(input))); the token mixer alone has no residual."""

    def __init__(self, dim: int, mlp_ratio: float, stage: int) -> None:
        super().__init__()
        self.token_mixer = RecursiveConv(dim, levels=4 - stage)
        self.norm = nn.BatchNorm2d(dim)
        self.channel_mixer = _channel_mixer(dim, mlp_ratio)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return features + self.channel_mixer(self.norm(self.token_mixer(features)))


class RecursiveAttentionBlock(nn.Module):
    """A series: input + channel_mixer(token_mixer(input)); the norm is the one inside the token mixer."""

    def __init__(self, dim: int, mlp_ratio: float, stage: int) -> None:
        super().__init__()
        self.token_mixer = RecursiveAttention(dim, num_heads=2 ** (stage + 1), quadratic=stage >= 3)
        self.channel_mixer = _channel_mixer(dim, mlp_ratio)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return features + self.channel_mixer(self.token_mixer(features))


class Stem(nn.Module):
    """Two 3x3 convolutions of stride 2 with a GELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), ConvNorm(dim // 2, dim, 3, stride=2))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, ceil(H/4), ceil(W/4)]."""
        return self.stem(image)


class Downsample(nn.Module):
    """A 7x7 depthwise convolution of stride 2 that doubles the channels, batch norm, and a residual MLP."""

    def __init__(self, dim: int, mlp_ratio: float) -> None:
        super().__init__()
        self.token_mixer = nn.Conv2d(dim, 2 * dim, 7, 2, 3, groups=dim)
        self.norm = nn.BatchNorm2d(2 * dim)
        self.channel_mixer = _channel_mixer(2 * dim, mlp_ratio)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 2C, ceil(H/2), ceil(W/2)]."""
        mixed = self.norm(self.token_mixer(features))
        return mixed + self.channel_mixer(mixed)


class Stage(nn.Module):
    """`downsample`, but for the first stage, then blocks one after the other."""

    def __init__(self, downsample: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C or 2C, H', W']."""
        return self.blocks(self.downsample(features))


class RecNeXt(nn.Module):
    """Four stages at strides 4, 8, 16, 32; their outputs have no norm of their own.

    Args:
        embed_dims: channels of the stages, each twice the one before.
        depths: blocks of the stages.
        token_mixer: "conv" (M series) or "attention" (A series).
        mlp_ratio: hidden width of the channel mixers over their width.

    Attributes:
        out_channels: channels of the four outputs.
    """

    def __init__(
        self, *, embed_dims: list[int], depths: list[int], token_mixer: str = "conv", mlp_ratio: float = 2.0
    ) -> None:
        super().__init__()
        if token_mixer not in ("conv", "attention"):
            raise ValueError(f'token_mixer is "conv" or "attention", not {token_mixer!r}')
        if any(after != 2 * before for before, after in itertools.pairwise(embed_dims)):
            raise ValueError(f"embed_dims double from stage to stage, not {embed_dims}")
        block = RecursiveConvBlock if token_mixer == "conv" else RecursiveAttentionBlock
        self.out_channels = list(embed_dims)
        self.stem = Stem(embed_dims[0])
        self.stages = nn.Sequential(
            *(
                Stage(
                    Downsample(dim // 2, mlp_ratio) if stage else nn.Identity(),
                    [block(dim, mlp_ratio, stage) for _ in range(depth)],
                )
                for stage, (dim, depth) in enumerate(zip(embed_dims, depths, strict=True))
            )
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> maps [B, embed_dims[i], ~H / 2**(i+2), ~W / 2**(i+2)] of any H and W."""
        features = self.stem(image)
        outputs = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return outputs

    def fuse(self) -> None:
        """Replaces every ConvNorm by its folded convolution, whose keys lose the word `conv`.

        As in the original, the single batch norms (after a token mixer and in `downsample`) stay.
        """
        for parent in list(self.modules()):
            for name, child in parent.named_children():
                if isinstance(child, ConvNorm):
                    setattr(parent, name, child.folded())


def _channel_mixer(dim: int, mlp_ratio: float) -> nn.Sequential:
    hidden = int(dim * mlp_ratio)
    return nn.Sequential(ConvNorm(dim, hidden, 1), nn.GELU(), ConvNorm(hidden, dim, 1))


build = RecNeXt
