"""Self-attention of the plain vision transformer.

Letters: B batch, C channels, T tokens.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FusedAttention(nn.Module):
    """Multi-head self-attention with one projection, with bias, for query, key and value."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))
