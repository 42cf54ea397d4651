"""Feed-forward networks and block wirings that an encoder of the SegFormer family can have, by name.

Names of parameters are those of Hugging Face's SegFormer and of the NOTA teams that built on it. LayerNorm and
BatchNorm eps are 1e-5 everywhere.

Letters: B batch, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import demand_known
from segzoo.models.layers import DropPath
from segzoo.models.segformer_layers import DepthwiseConv, Size, fold, to_map, to_tokens


class MixFfn(nn.Module):
    """SegFormer's Mix-FFN: linear, 3x3 depthwise convolution, exact GELU, linear.

    `extra_relu` adds a ReLU before the convolution, as PVTv2 has with linear attention (arXiv 2106.13797).
    """

    def __init__(self, dim: int, hidden_dim: int, *, extra_relu: bool = False) -> None:
        super().__init__()
        self.extra_relu = extra_relu
        self.dense1 = nn.Linear(dim, hidden_dim)
        self.dwconv = DepthwiseConv(hidden_dim)
        self.dense2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        hidden = self.dense1(tokens)
        if self.extra_relu:
            hidden = F.relu(hidden)
        return self.dense2(F.gelu(to_tokens(self.dwconv(to_map(hidden, size)))))


class DestFfn(nn.Module):
    """DEST's Mix-FFN (arXiv 2204.13791): batch norms after the first two convolutions and ReLU for GELU."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, hidden_dim, 1)
        self.batch_norm1: nn.Module = nn.BatchNorm2d(hidden_dim)
        self.dwconv = DepthwiseConv(hidden_dim)
        self.batch_norm2: nn.Module = nn.BatchNorm2d(hidden_dim)
        self.conv2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        hidden = self.batch_norm1(self.conv1(to_map(tokens, size)))
        hidden = F.relu(self.batch_norm2(self.dwconv(hidden)))
        return to_tokens(self.conv2(hidden))

    def fuse(self) -> None:
        """Folds both batch norms into the convolutions before them."""
        self.conv1, self.batch_norm1 = fold(self.conv1, self.batch_norm1)
        self.dwconv.dwconv, self.batch_norm2 = fold(self.dwconv.dwconv, self.batch_norm2)


class MixedDepthwiseConv(nn.Module):
    """3x3 depthwise on the first half of the channels, 5x5 on the second; keys `mixconv.conv_3`, `mixconv.conv_5`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        first, second = dim - dim // 2, dim // 2
        self.mixconv = nn.ModuleDict(
            {
                "conv_3": nn.Conv2d(first, first, 3, padding=1, groups=first),
                "conv_5": nn.Conv2d(second, second, 5, padding=2, groups=second),
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        small, large = features.split([conv.in_channels for conv in self.mixconv.values()], dim=1)
        return torch.cat([self.mixconv["conv_3"](small), self.mixconv["conv_5"](large)], dim=1)


class MixCfn(nn.Module):
    """BoostFormer's network: 1x1 convolution, batch norm, mixed depthwise convolution, batch norm, GELU, 1x1."""

    def __init__(self, dim: int, hidden_dim: int, *, names: tuple[str, str] = ("conv_1", "conv_2")) -> None:
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Conv2d(dim, hidden_dim, 1))
        self.norm_1: nn.Module = nn.BatchNorm2d(hidden_dim)
        self.dwconv = MixedDepthwiseConv(hidden_dim)
        self.norm_2 = nn.BatchNorm2d(hidden_dim)
        self.add_module(names[1], nn.Conv2d(hidden_dim, dim, 1))

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        return to_tokens(self.on_map(to_map(tokens, size)))

    def on_map(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        first, second = (getattr(self, name) for name in self.names)
        return second(F.gelu(self.norm_2(self.dwconv(self.norm_1(first(features))))))

    def fuse(self) -> None:
        """Folds the first batch norm into the convolution before it; the second follows two convolutions."""
        conv, self.norm_1 = fold(getattr(self, self.names[0]), self.norm_1)
        setattr(self, self.names[0], conv)


class PreNormBlock(nn.Module):
    """x = x + A(LN(x)); x = x + F(LN(x))."""

    def __init__(self, dim: int, attention: nn.Module, ffn: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.layer_norm_1 = nn.LayerNorm(dim)
        self.attention = attention
        self.drop_path = DropPath(drop_path)
        self.layer_norm_2 = nn.LayerNorm(dim)
        self.mlp = ffn

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        tokens = tokens + self.drop_path(self.attention(self.layer_norm_1(tokens), size))
        return tokens + self.drop_path(self.mlp(self.layer_norm_2(tokens), size))


class RecursiveBlock(nn.Module):
    """Recursive skip connection (arXiv 2105.07205): x = LN(LN(A(x) + x) + x), then the same with F.

    Stochastic depth acts on the output of the inner norm.
    """

    def __init__(self, dim: int, attention: nn.Module, ffn: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.attention = attention
        self.layer_norm_11 = nn.LayerNorm(dim)
        self.layer_norm_12 = nn.LayerNorm(dim)
        self.drop_path = DropPath(drop_path)
        self.mlp = ffn
        self.layer_norm_21 = nn.LayerNorm(dim)
        self.layer_norm_22 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        branch = self.drop_path(self.layer_norm_11(self.attention(tokens, size) + tokens))
        tokens = self.layer_norm_12(branch + tokens)
        branch = self.drop_path(self.layer_norm_21(self.mlp(tokens, size) + tokens))
        return self.layer_norm_22(branch + tokens)


class LateNormBlock(nn.Module):
    """BoostFormer's: x = x + A(x) on the plain x; x = LN2(x + F(LN1(x)))."""

    def __init__(self, dim: int, attention: nn.Module, ffn: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.layer_norm_1 = nn.LayerNorm(dim)
        self.attention = attention
        self.drop_path = DropPath(drop_path)
        self.layer_norm_2 = nn.LayerNorm(dim)
        self.mlp = ffn

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        tokens = tokens + self.drop_path(self.attention(tokens, size))
        return self.layer_norm_2(tokens + self.drop_path(self.mlp(self.layer_norm_1(tokens), size)))


class PoolingBlock(nn.Module):
    """BoostFormer's block without attention: a 3x3 average less the map itself mixes positions.

    The second norm comes after the sum. Padding is not counted in the average.
    """

    def __init__(self, dim: int, hidden_dim: int, drop_path: float, *, layer_scale: float = 1e-5) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), layer_scale))
        self.norm_1 = nn.BatchNorm2d(dim)
        self.norm_2 = nn.BatchNorm2d(dim)
        self.mlp = MixCfn(dim, hidden_dim, names=("conv1", "conv2"))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        features = to_map(tokens, size)
        mixed = F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False) - features
        features = features + self.drop_path(self.layer_scale_1[:, None, None] * mixed)
        branch = self.layer_scale_2[:, None, None] * self.mlp.on_map(self.norm_1(features))
        return to_tokens(self.norm_2(features + self.drop_path(branch)))


FFNS = {
    "mix": MixFfn,
    "mix-relu": lambda dim, hidden_dim: MixFfn(dim, hidden_dim, extra_relu=True),
    "dest": DestFfn,
    "mix-cfn": MixCfn,
}
WIRINGS = {"pre-norm": PreNormBlock, "recursive": RecursiveBlock, "late-norm": LateNormBlock}


def build_ffn(name: str, dim: int, hidden_dim: int) -> nn.Module:
    """The feed-forward network of this name.

    Raises:
        UsageError: no such network.
    """
    demand_known("ffn", name, FFNS)
    return FFNS[name](dim, hidden_dim)


def build_block(wiring: str, dim: int, attention: nn.Module, ffn: nn.Module, drop_path: float) -> nn.Module:
    """Attention and feed-forward network wired as the name says.

    Raises:
        UsageError: no such wiring.
    """
    demand_known("skip", wiring, WIRINGS)
    return WIRINGS[wiring](dim, attention, ffn, drop_path)
