"""SegFormer's all-MLP decode head in Hugging Face's names, and BoostFormer's form of it.

Papers: arXiv 2105.15203 (SegFormer). State-dict keys are those of transformers 4 and of the NOTA teams.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.heads.segformer import MapLinear
from segzoo.models.layers import resize
from segzoo.models.segformer_layers import fold


class AllMlpHead(nn.Module):
    """Every map to one width and to the first map's size, then one map of all, norm, ReLU and classifier.

    Args:
        in_channels: channels of the maps, shallow to deep.
        num_classes: number of classes.
        embed_dim: the common width.
        fusion: "concat" (deep to shallow, then a 1x1 convolution) or "weighted-sum" (one learned weight a map; the
            1x1 convolution is made all the same, since it is in the checkpoints, and never used).
        dropout: rate of dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        embed_dim: int = 256,
        fusion: str = "concat",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if fusion not in ("concat", "weighted-sum"):
            raise UsageError(f'unknown fusion {fusion!r}; there are "concat" and "weighted-sum"')
        if fusion == "weighted-sum":
            self.weights = nn.Parameter(torch.ones(len(in_channels), 1))
        self.fusion = fusion
        self.linear_c = nn.ModuleList(MapLinear(channels, embed_dim) for channels in in_channels)
        self.linear_fuse = nn.Conv2d(len(in_channels) * embed_dim, embed_dim, 1, bias=False)
        self.batch_norm: nn.Module = nn.BatchNorm2d(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(embed_dim, num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each map -> [B, K, H_0, W_0]."""
        size = features[0].shape[2:]
        maps = [resize(linear(feature), size) for linear, feature in zip(self.linear_c, features, strict=True)]
        if self.fusion == "concat":
            fused = self.linear_fuse(torch.cat(maps[::-1], dim=1))
        else:
            fused = torch.stack([weight * feature for weight, feature in zip(self.weights, maps, strict=True)]).sum(0)
        return self.classifier(self.dropout(torch.relu(self.batch_norm(fused))))

    def fuse(self) -> None:
        """Folds the batch norm into the 1x1 convolution, where that is used."""
        if self.fusion == "concat":
            self.linear_fuse, self.batch_norm = fold(self.linear_fuse, self.batch_norm)


build = AllMlpHead
