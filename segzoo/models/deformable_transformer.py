"""UN-EPT's context branch: an encoder and a decoder of multi-scale deformable attention.

Paper: "A Unified Efficient Pyramid Transformer for Semantic Segmentation", ICCV 2021 Workshops, after
Deformable DETR (arXiv 2010.04159). State-dict keys are those of amazon-research/unified-ept.

Letters: B batch, C channels, M heads, L levels, P points, T tokens of all levels, Q queries, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo import kernels


class DeformableAttention(nn.Module):
    """Every query reads a few learned places around its reference point on every level."""

    needs_kernels = True

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._init()

    def forward(self, query: Tensor, reference: Tensor, tokens: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Queries [B, Q, C] at reference points [Q, 2] (x, y in 0..1), tokens [B, T, C] -> [B, Q, C]."""
        value = self.value_proj(tokens).unflatten(-1, (self.heads, -1))
        places = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*places, 2))
        # Places keep at least float32: half precision would move them by whole pixels.
        precision = torch.promote_types(offsets.dtype, torch.float32)
        sizes = _sizes(shapes, query.device, precision)
        locations = reference.to(precision)[:, None, None, None] + offsets.to(precision) / sizes[:, None]
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, (self.levels, self.points))
        return self.output_proj(kernels.deformable_attention(value, shapes, locations, weights))

    def _init(self) -> None:
        """Head m looks in direction 2*pi*m / M, point p at p + 1 pixels; all weights are equal."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)
        offsets = directions[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)


class EncoderLayer(nn.Module):
    """Deformable self-attention over all levels and a feed-forward network, post-norm."""

    def __init__(self, dim: int, heads: int, levels: int, points: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """[B, T, C] -> [B, T, C]; `position` [T, C] is added to the queries alone."""
        attended = self.self_attn(tokens + position, reference, tokens, shapes)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.linear2(self.dropout(F.relu(self.linear1(tokens))))
        return self.norm2(tokens + self.dropout(hidden))


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention into the encoder's tokens, feed-forward network; post-norm.

    The published self-attention runs ACROSS THE BATCH: the authors hand [Q, B, C] tokens transposed to a
    module that expects the sequence first, so that a query attends to the same query of the other
    images of its batch. With one image its attention weight is exactly 1, and what is left is
    out_proj(v_proj(x)). Evaluation does that for every image, whatever the batch; training mixes the
    images of a device as the published training did (`across_batch`). Neither forms a Q x Q matrix.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.cross_attn = DeformableAttention(dim, heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, reference: Tensor, memory: Tensor, shapes: list[tuple[int, int]], across_batch: bool
    ) -> Tensor:
        """[B, Q, C] and the encoder's [B, T, C] -> [B, Q, C]."""
        if across_batch:
            attended = self.self_attn(queries, queries, queries, need_weights=False)[0]
        else:
            attended = self._attend_alone(queries)
        queries = self.norm2(queries + self.dropout(attended))
        attended = self.cross_attn(queries, reference, memory, shapes)
        queries = self.norm1(queries + self.dropout(attended))
        hidden = self.linear2(self.dropout(F.relu(self.linear1(queries))))
        return self.norm3(queries + self.dropout(hidden))

    def _attend_alone(self, queries: Tensor) -> Tensor:
        """What self-attention over a batch of one amounts to."""
        weight = self.self_attn.in_proj_weight.chunk(3)[2]
        bias = self.self_attn.in_proj_bias.chunk(3)[2]
        return self.self_attn.out_proj(F.linear(queries, weight, bias))


class Layers(nn.Module):
    """Holds layers under the authors' keys; the context branch runs them."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class ContextBranch(nn.Module):
    """Encodes the levels of a pyramid and decodes them at the places of the queries."""

    def __init__(
        self, dim: int, *, heads: int, levels: int, points: int, hidden_dim: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = (dim, heads, levels, points, hidden_dim, dropout)
        self.level_embed = nn.Parameter(torch.empty(levels, dim))
        self.encoder = Layers(EncoderLayer(*sizes) for _ in range(depth))
        self.decoder = Layers(DecoderLayer(*sizes) for _ in range(depth))
        nn.init.normal_(self.level_embed)

    def forward(self, maps: list[Tensor], queries: Tensor, side: tuple[int, int], across_batch: bool) -> Tensor:
        """Maps [B, C, H_l, W_l] and queries [B, Q, C] on a grid of `side` (rows, columns) -> [B, Q, C]."""
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        position = self._position(shapes)
        reference = torch.cat([pixel_centres(height, width, memory.device) for height, width in shapes])
        for layer in self.encoder.layers:
            memory = layer(memory, position, reference, shapes)
        grid = pixel_centres(*side, memory.device)
        for layer in self.decoder.layers:
            queries = layer(queries, grid, memory, shapes, across_batch)
        return queries

    def _position(self, shapes: list[tuple[int, int]]) -> Tensor:
        """[T, C]: where a token lies on its level, and which level that is."""
        dim, device, dtype = self.level_embed.shape[1], self.level_embed.device, self.level_embed.dtype
        return torch.cat(
            [
                sine_embedding(height, width, dim, device).to(dtype) + embedding
                for (height, width), embedding in zip(shapes, self.level_embed, strict=True)
            ]
        )


def _sizes(shapes: list[tuple[int, int]], device: torch.device, dtype: torch.dtype) -> Tensor:
    """[L, 2] (width, height) of each level, made on the device: a copy from the host would make a GPU wait."""
    sides = [torch.full((), side, device=device, dtype=dtype) for height, width in shapes for side in (width, height)]
    return torch.stack(sides).view(-1, 2)


def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """[H * W, 2] float32 (x, y) of every pixel's centre, in 0..1."""
    rows = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    columns = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], dim=-1).flatten(0, 1)


def sine_embedding(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """[H * W, C] float32: C / 2 features for the row, then C / 2 for the column, sine and cosine in turn.

    Rows and columns count from 1 and are divided by (their number + 1e-6); the temperature is 10000.
    """
    half = dim // 2
    period = 10000.0 ** (2 * torch.div(torch.arange(half, device=device), 2, rounding_mode="floor") / half)

    def along(count: int) -> Tensor:
        place = torch.arange(1, count + 1, device=device, dtype=torch.float32) / (count + 1e-6) * (2 * math.pi)
        phase = place[:, None] / period
        return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=-1).flatten(1)

    rows = along(height)[:, None].expand(height, width, half)
    columns = along(width)[None].expand(height, width, half)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
