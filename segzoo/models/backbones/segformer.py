"""SegFormer's encoder in Hugging Face's names, with its attention, network, wiring, embedding and stages to choose.

Papers: arXiv 2105.15203 (SegFormer) and those named in segformer_attention.py and segformer_blocks.py. State-dict keys
are those of transformers 4 and of the NOTA teams. LayerNorm eps is 1e-5 everywhere: NVlabs' own code has 1e-6 in
places (mix_transformer.py), and the same weights in both give logits that differ by 2e-5 of their deviation.

Letters: B batch, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from segzoo.errors import demand_known
from segzoo.models.segformer_attention import AttentionSlot
from segzoo.models.segformer_blocks import PoolingBlock, build_block, build_ffn
from segzoo.models.segformer_layers import Size, drop_path_rates, each_stage, to_map, to_tokens

STAGES = ("attention", "pooling")


class OverlapPatchEmbedding(nn.Module):
    """A strided convolution whose windows overlap, then a LayerNorm."""

    def __init__(self, in_channels: int, dim: int, *, patch_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride, patch_size // 2)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Size]:
        """[B, C_in, H, W] -> tokens [B, N, C] and their (height, width)."""
        features = self.proj(features)
        return self.layer_norm(to_tokens(features)), (features.shape[2], features.shape[3])


class PoolPatchEmbedding(nn.Module):
    """BoostFormer's: average pooling whose padding is not counted, a 1x1 convolution, a LayerNorm."""

    def __init__(self, in_channels: int, dim: int, *, patch_size: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(patch_size, stride, patch_size // 2, count_include_pad=False)
        self.conv = nn.Conv2d(in_channels, dim, 1)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Size]:
        """[B, C_in, H, W] -> tokens [B, N, C] and their (height, width)."""
        features = self.conv(self.pool(features))
        return self.layer_norm(to_tokens(features)), (features.shape[2], features.shape[3])


EMBEDDINGS = {"overlap": OverlapPatchEmbedding, "pool": PoolPatchEmbedding}


class SegformerEncoder(nn.Module):
    """Image -> maps at strides 4, 8, 16 and 32.

    A choice given as one word holds for all stages, as a list for each of them.

    Args:
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        num_heads: heads of each stage's attention.
        sr_ratios: reduction of keys and values in each stage, for "sra" and "window".
        mlp_ratios: hidden width of the feed-forward network over the stage's width.
        attention: a name of segformer_attention.ATTENTIONS.
        projection: a linear layer after the attention; "window" has one of its own.
        ffn: a name of segformer_blocks.FFNS.
        skip: a name of segformer_blocks.WIRINGS.
        stages: "attention" (blocks of the words above) or "pooling" (BoostFormer's blocks without attention).
        embed: "overlap" (convolution) or "pool" (average pooling).
        stage_norm: a LayerNorm closes each stage.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.

    Attributes:
        out_channels: channels of the four maps.
        path_in_model: where a Segmentor keeps it, the first words of the keys.
    """

    path_in_model = "segformer.encoder"

    def __init__(
        self,
        embed_dims: list[int],
        depths: list[int],
        *,
        num_heads: tuple[int, ...] | list[int] = (1, 2, 5, 8),
        sr_ratios: tuple[int, ...] | list[int] = (8, 4, 2, 1),
        mlp_ratios: tuple[float, ...] | list[float] = (4, 4, 4, 4),
        attention: str | list[str] = "sra",
        projection: bool = True,
        ffn: str | list[str] = "mix",
        skip: str | list[str] = "pre-norm",
        stages: str | list[str] = "attention",
        embed: str = "overlap",
        stage_norm: bool = True,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        demand_known("embed", embed, EMBEDDINGS)
        self.out_channels = list(embed_dims)
        self.patch_embeddings = nn.ModuleList(
            EMBEDDINGS[embed](before, dim, patch_size=7 if index == 0 else 3, stride=4 if index == 0 else 2)
            for index, (before, dim) in enumerate(zip([3, *embed_dims], embed_dims, strict=False))
        )
        words = (
            ("stages", stages),
            ("attention", attention),
            ("ffn", ffn),
            ("skip", skip),
            ("embed_dims", embed_dims),
            ("num_heads", num_heads),
            ("sr_ratios", sr_ratios),
            ("mlp_ratios", mlp_ratios),
        )
        choices = zip(*(each_stage(word, value, len(embed_dims)) for word, value in words), strict=True)
        rates = drop_path_rates(drop_path_rate, each_stage("depths", depths, len(embed_dims)))
        self.block = nn.ModuleList(
            nn.ModuleList(_block(*chosen, projection=projection, drop_path=drop) for drop in drops)
            for chosen, drops in zip(choices, rates, strict=True)
        )
        if stage_norm:
            self.layer_norm = nn.ModuleList(nn.LayerNorm(dim) for dim in embed_dims)
        self.stage_norm = stage_norm
        self.apply(init_hugging_face)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> [B, C_i, H_i, W_i] for i = 0..3; a stage's output feeds the next stage."""
        outputs: list[Tensor] = []
        features = image
        for index, embedding in enumerate(self.patch_embeddings):
            tokens, size = embedding(features)
            for block in self.block[index].children():
                tokens = block(tokens, size)
            if self.stage_norm:
                tokens = self.layer_norm[index](tokens)
            features = to_map(tokens, size)
            outputs.append(features)
        return outputs


def _block(
    stage: str,
    attention: str,
    ffn: str,
    skip: str,
    dim: int,
    num_heads: int,
    sr_ratio: int,
    mlp_ratio: float,
    *,
    projection: bool,
    drop_path: float,
) -> nn.Module:
    hidden_dim = int(dim * mlp_ratio)
    demand_known("stage", stage, STAGES)
    if stage == "pooling":
        return PoolingBlock(dim, hidden_dim, drop_path)
    slot = AttentionSlot(attention, dim, num_heads, sr_ratio, projection=projection and attention != "window")
    return build_block(skip, dim, slot, build_ffn(ffn, dim, hidden_dim), drop_path)


def init_hugging_face(module: nn.Module) -> None:
    """Initial values of the Hugging Face library, for `module.apply`: normal (std 0.02), zero biases."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


build = SegformerEncoder
