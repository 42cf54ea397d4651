"""Layers that several models share.

Letters: B batch, C channels, H height, W width, N heads, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo import kernels


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm (eps 1e-5) and ReLU; keys `conv` and `bn` as in mmcv's ConvModule."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H', W']."""
        return F.relu(self.bn(self.conv(image)), inplace=not self.training)

    def fuse(self) -> None:
        """Folds the batch norm's statistics into the convolution; the layer then has `conv.bias` and no `bn`."""
        fold_norm(self, "conv", "bn")


def fold_norm(module: nn.Module, conv: str, norm: str) -> None:
    """Folds the batch norm `module.<norm>` into the convolution `module.<conv>`; an identity takes its place."""
    batch_norm = getattr(module, norm)
    if isinstance(batch_norm, nn.modules.batchnorm._BatchNorm):
        folded = torch.nn.utils.fuse_conv_bn_eval(getattr(module, conv).eval(), batch_norm.eval())
        setattr(module, conv, folded)
        setattr(module, norm, nn.Identity())


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training each image skips the branch with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Same shape as the input; kept branches are scaled by 1 / (1 - rate)."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        mask = branch.new_empty((branch.shape[0],) + (1,) * (branch.ndim - 1)).bernoulli_(keep)
        return branch * (mask / keep)

    def extra_repr(self) -> str:
        """Shows the rate in the printed model."""
        return f"rate={self.rate:.3f}"


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class NeighborhoodAttention(nn.Module):
    """Neighborhood attention with relative positional bias (NAT, arXiv 2204.07143; dilated: 2209.15001).

    A map whose height or width is smaller than kernel_size * dilation is zero-padded at the bottom and
    right BEFORE the qkv projection, so padded tokens have q, k, v equal to the projection's bias and take
    part in the softmax of real queries. That is what NATTEN 0.14 did when the checkpoints were trained.
    """

    needs_kernels = True

    def __init__(self, dim: int, num_heads: int, kernel_size: int, dilation: int = 1, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.rpb = nn.Parameter(torch.zeros(num_heads, 2 * kernel_size - 1, 2 * kernel_size - 1))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        height, width, dim = tokens.shape[1:]
        reach = self.kernel_size * self.dilation
        if height < reach or width < reach:
            tokens = F.pad(tokens, (0, 0, 0, max(0, reach - width), 0, max(0, reach - height)))
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        attended = kernels.neighborhood_attention_2d(
            query, key, value, self.rpb, kernel_size=self.kernel_size, dilation=self.dilation
        )
        return self.proj(attended[:, :height, :width].reshape(tokens.shape[0], height, width, dim))


class NeighborhoodBlock(nn.Module):
    """Pre-norm transformer block of the NAT family; layer scale (`gamma1`, `gamma2`) where a value is given."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        kernel_size: int,
        dilation: int,
        mlp_ratio: float,
        drop_path: float,
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = NeighborhoodAttention(dim, num_heads, kernel_size, dilation)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)
        for name in ("gamma1", "gamma2"):
            scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
            self.register_parameter(name, scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        branch = self.attn(self.norm1(tokens))
        tokens = tokens + self.drop_path(branch if self.gamma1 is None else self.gamma1 * branch)
        branch = self.mlp(self.norm2(tokens))
        return tokens + self.drop_path(branch if self.gamma2 is None else self.gamma2 * branch)


class NeighborhoodStage(nn.Module):
    """Blocks one after the other and, but for the last stage, `downsample` to the next one's size and width."""

    def __init__(self, blocks: list[NeighborhoodBlock], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


def neighborhood_stages(
    embed_dim: int,
    depths: list[int],
    num_heads: list[int],
    *,
    kernel_size: int,
    mlp_ratio: float,
    drop_path_rate: float,
    dilations: list[list[int]] | None,
    layer_scale: float | None,
    downsampler: Callable[[int], nn.Module],
) -> nn.ModuleList:
    """The stages; stage i has width embed_dim * 2**i, and drop path rises linearly over all blocks.

    Args:
        dilations: one number for each block of each stage; None is 1 everywhere.
        downsampler: makes the module from one stage to the next, given the width before it.

    Raises:
        ValueError: `dilations` that do not match `depths`.
    """
    if dilations is not None and [len(stage) for stage in dilations] != list(depths):
        raise ValueError(f"dilations {dilations} do not have one number for each block of depths {depths}")
    rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()
    stages = []
    for index, depth in enumerate(depths):
        width = embed_dim * 2**index
        first = sum(depths[:index])
        blocks = [
            NeighborhoodBlock(
                width,
                num_heads[index],
                kernel_size=kernel_size,
                dilation=dilations[index][block] if dilations else 1,
                mlp_ratio=mlp_ratio,
                drop_path=rates[first + block],
                layer_scale=layer_scale,
            )
            for block in range(depth)
        ]
        stages.append(NeighborhoodStage(blocks, downsampler(width) if index < len(depths) - 1 else None))
    return nn.ModuleList(stages)


def run_stages(stages: nn.ModuleList, norms: list[nn.Module], tokens: Tensor) -> list[Tensor]:
    """Runs [B, H, W, C] tokens through the stages; each stage's normalised output as [B, C_i, H_i, W_i].

    The tensor that goes on to the next stage is the one before the norm.
    """
    outputs = []
    for stage, norm in zip(stages, norms, strict=True):
        assert isinstance(stage, NeighborhoodStage)
        tokens = stage.blocks(tokens)
        outputs.append(norm(tokens).permute(0, 3, 1, 2))
        if stage.downsample is not None:
            tokens = stage.downsample(tokens)
    return outputs


def init_transformer(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linear weights and zero biases, for `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_classifier(conv: nn.Conv2d) -> None:
    """Normal (std 0.01) weights and zero biases, the usual start of a segmentation head's last layer."""
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def resize(features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear resize of [B, C, H, W] to `size`, corners not aligned; unchanged where it fits already."""
    if features.shape[2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)
