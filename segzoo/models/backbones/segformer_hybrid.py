"""SegFormer's encoder with Next-ViT's convolution blocks, as the NOTA team mixed the two.

Paper: arXiv 2207.05501 (Next-ViT). State-dict keys are the team's. The patch embedding of the first stage averages 2x2
pixels at stride 4, so that 12 of 16 pixels are never read; checkpoints depend on it.

Letters: B batch, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.backbones.segformer import init_hugging_face
from segzoo.models.segformer_attention import build_attention
from segzoo.models.segformer_blocks import build_block, build_ffn
from segzoo.models.segformer_layers import drop_path_rates, each_stage, to_map, to_tokens

HEAD_DIM = 32
CONV_RATIO = 3


class PoolEmbedding(nn.Module):
    """2x2 average pooling (padding not counted), 1x1 convolution without bias, batch norm."""

    def __init__(self, in_channels: int, dim: int, *, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        self.conv = nn.Conv2d(in_channels, dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C, H / stride, W / stride]."""
        return self.norm(self.conv(self.pool(features)))


class ConvAttention(nn.Module):
    """Next-ViT's multi-head convolutional attention: grouped 3x3 convolution, batch norm, ReLU, 1x1 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % HEAD_DIM:
            raise UsageError(f"convolution blocks have groups of {HEAD_DIM} channels, which do not divide {dim}")
        self.group_conv3x3 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim // HEAD_DIM, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.projection = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.projection(F.relu(self.norm(self.group_conv3x3(features))))


class ConvMlp(nn.Module):
    """1x1 convolution, ReLU, 1x1 convolution."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, hidden_dim, 1)
        self.conv2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.conv2(F.relu(self.conv1(features)))


class NextConvBlock(nn.Module):
    """Next-ViT's convolution block on maps: x = x + MHCA(x); x = x + M(BN(x))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mhca = ConvAttention(dim)
        self.norm = nn.BatchNorm2d(dim)
        self.mlp = ConvMlp(dim, multiple_of(CONV_RATIO * dim, 32))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        features = features + self.mhca(features)
        return features + self.mlp(self.norm(features))


class HybridEncoder(nn.Module):
    """Image -> maps at strides 4, 8, 16 and 32.

    Args:
        embed_dims: channels of each stage.
        blocks: the blocks of each stage as a word, "C" a convolution block and "T" a transformer block. Every
            transformer block is followed by its stage's LayerNorm, the same one each time.
        num_heads: heads of each stage's attention.
        sr_ratios: reduction of keys and values in each stage, for the attentions that have it.
        mlp_ratios: hidden width of the transformer blocks' network over the stage's width.
        attention: a name of segformer_attention.ATTENTIONS; there is no linear layer after it.
        ffn: a name of segformer_blocks.FFNS.
        skip: a name of segformer_blocks.WIRINGS.
        drop_path_rate: stochastic depth of the last block; convolution blocks have none.

    Attributes:
        out_channels: channels of the four maps.
        path_in_model: where a Segmentor keeps it, the first words of the keys.
    """

    path_in_model = "segformer.encoder"

    def __init__(
        self,
        embed_dims: list[int],
        blocks: list[str],
        *,
        num_heads: tuple[int, ...] | list[int] = (1, 2, 5, 8),
        sr_ratios: tuple[int, ...] | list[int] = (8, 4, 2, 1),
        mlp_ratios: tuple[float, ...] | list[float] = (4, 4, 4, 4),
        attention: str = "lsra",
        ffn: str = "dest",
        skip: str = "pre-norm",
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        words = each_stage("blocks", blocks, len(embed_dims))
        if not all(word and set(word) <= {"C", "T"} for word in words):
            raise UsageError(f"blocks: every stage needs a word of the letters C and T, not {words}")
        self.out_channels = list(embed_dims)
        self.patch_embeddings = nn.ModuleList(
            # A list of one: the team's stages could have had an embedding for every block.
            nn.ModuleList([PoolEmbedding(before, dim, stride=4 if index == 0 else 2)])
            for index, (before, dim) in enumerate(zip([3, *embed_dims], embed_dims, strict=False))
        )
        rates = drop_path_rates(drop_path_rate, [len(word) for word in words])
        self.block = nn.ModuleList()
        settings = (("num_heads", num_heads), ("sr_ratios", sr_ratios), ("mlp_ratios", mlp_ratios))
        for word, dim, heads, sr_ratio, ratio, drops in zip(
            words, embed_dims, *(each_stage(name, value, len(words)) for name, value in settings), rates, strict=True
        ):
            stage = nn.ModuleList()
            for letter, drop in zip(word, drops, strict=True):
                if letter == "C":
                    stage.append(NextConvBlock(dim))
                else:
                    attending = build_attention(attention, dim, heads, sr_ratio)
                    stage.append(build_block(skip, dim, attending, build_ffn(ffn, dim, int(dim * ratio)), drop))
            self.block.append(stage)
        self.layer_norm = nn.ModuleList(nn.LayerNorm(dim) for dim in embed_dims)
        self.apply(init_hugging_face)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, C_i, H_i, W_i] for i = 0..3; a stage's output feeds the next stage."""
        outputs: list[Tensor] = []
        features = image
        for index, norm in enumerate(self.layer_norm):
            features = self.patch_embeddings.get_submodule(f"{index}.0")(features)
            for block in self.block[index].children():
                if isinstance(block, NextConvBlock):
                    features = block(features)
                else:
                    size = (features.shape[2], features.shape[3])
                    features = to_map(norm(block(to_tokens(features), size)), size)
            outputs.append(features)
        return outputs


def multiple_of(width: int, divisor: int) -> int:
    """`width` rounded to the nearest multiple of `divisor`, at least one and never below nine tenths of it."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


build = HybridEncoder
