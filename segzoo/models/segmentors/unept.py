"""UN-EPT: a spatial branch asks, a context branch of deformable attention answers.

Paper: "A Unified Efficient Pyramid Transformer for Semantic Segmentation", ICCV 2021 Workshops.
State-dict keys are those of amazon-research/unified-ept.

Letters: B batch, C channels, K classes, H height, W width, Q queries.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.deformable_transformer import ContextBranch
from segzoo.models.layers import fold_norm, init_classifier
from segzoo.models.segmentor import fuse_parts

STRIDE = 8
DIRECTIONS = 8


class ConvBlock(nn.Module):
    """A 3x3 convolution of stride 2 without bias, and a batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H / 2, W / 2]."""
        return self.bn(self.conv1(image))

    def fuse(self) -> None:
        """Folds the batch norm into the convolution."""
        fold_norm(self, "conv1", "bn")


class SpatialBranch(nn.Module):
    """Three halvings of the image; no ReLU after the last, as published."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convblock1 = ConvBlock(3, dim // 4)
        self.convblock2 = ConvBlock(dim // 4, dim // 2)
        self.convblock3 = ConvBlock(dim // 2, dim)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H / 8, W / 8]."""
        return self.convblock3(F.relu(self.convblock2(F.relu(self.convblock1(image)))))


class UNEPT(nn.Module):
    """Segmentor whose queries, one for each cell of the spatial branch, read the backbone's last maps.

    In training the decoder's self-attention mixes the images of a batch, as the published training did; in
    evaluation every image gets the answer that it has alone (see `DecoderLayer`). `mix_images` overrides that.

    Args:
        backbone: gives maps, of which the last `levels` are read, and their channels as `out_channels`.
        num_classes: number of classes.
        channels: width of both branches.
        levels: maps that the context branch reads.
        points: places that a head reads on each level for each query.
        heads: heads of every attention.
        hidden_dim: width of the feed-forward networks.
        depth: layers of the encoder, and of the decoder.
        dropout: rate inside the context branch, in training.
        image_size: side in pixels of the square input; there are (image_size / 8)**2 learned queries.

    Attributes:
        mix_images: None follows the mode; True or False says whether the decoder mixes the images of a batch.
        input_size: the only (height, width) in pixels that the network takes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        channels: int = 256,
        levels: int = 3,
        points: int = 16,
        heads: int = 8,
        hidden_dim: int = 2048,
        depth: int = 2,
        dropout: float = 0.1,
        image_size: int = 480,
    ) -> None:
        super().__init__()
        if image_size % STRIDE:
            raise UsageError(f"unept: image_size is a multiple of {STRIDE}, not {image_size}")
        widths = list(backbone.out_channels)[-levels:]  # type: ignore[arg-type]
        if len(widths) < levels:
            raise UsageError(f"unept: the backbone gives {len(widths)} maps for {levels} levels")
        self.mix_images: bool | None = None
        self.input_size = (image_size, image_size)
        self.side = (image_size // STRIDE, image_size // STRIDE)
        self.backbone = backbone
        self.cls = nn.Conv2d(channels, num_classes, 1)
        self.layers = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.context_branch = ContextBranch(
            channels, heads=heads, levels=levels, points=points, hidden_dim=hidden_dim, depth=depth, dropout=dropout
        )
        self.query_embed = nn.Embedding(self.side[0] * self.side[1], channels)
        self.spatial_branch = SpatialBranch(channels)
        self.dir_head = _boundary_head(channels, DIRECTIONS)
        self.mask_head = _boundary_head(channels, 2)
        init_classifier(self.cls)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] normalised float, of `input_size` -> logits [B, K, H / 8, W / 8].

        Raises:
            UsageError: an image of another size.
        """
        return self._classify(image, self._spatial(image))

    def forward_outputs(self, image: Tensor) -> dict[str, Tensor]:
        """All that training needs, all of H / 8 x W / 8.

        Returns:
            "logits" [B, K, ...]; "mask_logits" [B, 2, ...], inside and boundary; "direction_logits"
            [B, 8, ...], the way from the boundary into the segment (see segzoo/data/boundary.py).
        """
        spatial = self._spatial(image)
        return {
            "logits": self._classify(image, spatial),
            "mask_logits": self.mask_head(spatial),
            "direction_logits": self.dir_head(spatial),
        }

    def fuse(self) -> UNEPT:
        """Folds batch norms into the convolutions before them, in place, for inference. Returns the model."""
        fuse_parts(self)
        for head in (self.dir_head, self.mask_head):
            fold_norm(head, "0", "1")
        return self

    def _spatial(self, image: Tensor) -> Tensor:
        if tuple(image.shape[2:]) != self.input_size:
            height, width = self.input_size
            raise UsageError(
                f"UN-EPT takes {height}x{width} pixels, not {image.shape[2]}x{image.shape[3]}: it has a learned query "
                f"for each of {self.side[0]}x{self.side[1]} cells; evaluate it in padded sliding windows of that size"
            )
        return self.spatial_branch(image)

    def _classify(self, image: Tensor, spatial: Tensor) -> Tensor:
        maps = self.backbone(image)[-len(self.layers) :]
        pyramid = [project(level) for project, level in zip(self.layers, maps, strict=True)]
        queries = spatial.flatten(2).transpose(1, 2) + self.query_embed.weight
        across_batch = self.training if self.mix_images is None else self.mix_images
        answers = self.context_branch(pyramid, queries, self.side, across_batch)
        return self.cls(answers.transpose(1, 2).unflatten(2, self.side))


def _boundary_head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, classes, 1, bias=False),
    )


build = UNEPT
