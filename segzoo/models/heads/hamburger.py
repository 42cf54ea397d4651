"""The NOTA team's Hamburger decode head, whole or lightened, in the team's names.

Paper: arXiv 2109.04553. Unlike SegNeXt's head (light_ham.py) it has no norms, and gradients flow through the last
update of the factorisation alone. Without breads, cheese and align it is the team's lightened head ("Ham-lite").

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.layers import resize
from segzoo.models.matrix_decomposition import MatrixDecomposition

STEPS = 6
EPS = 1e-7


class Squeeze(nn.Module):
    """1x1 convolution without bias and ReLU; key `conv`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        return F.relu(self.conv(features))


class Cheese(nn.Module):
    """3x3 convolution without bias, batch norm, ReLU; keys `conv` and `norm.norm`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.ModuleDict({"norm": nn.BatchNorm2d(channels)})

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return F.relu(self.norm["norm"](self.conv(features)))


class TeamHamburger(nn.Module):
    """Lower bread, factorisation, cheese, upper bread, each where wanted; ReLU of that plus the input."""

    def __init__(self, channels: int, ham_channels: int, *, rank: int, seed: int, breads: bool, cheese: bool) -> None:
        super().__init__()
        width = ham_channels if breads else channels
        if breads:
            self.lower_bread = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU())
        self.ham = MatrixDecomposition(
            width, rank, train_steps=STEPS, eval_steps=STEPS, eps=EPS, full_gradient=False, seed=seed
        )
        if cheese:
            self.cheese = Cheese(width)
        if breads:
            self.upper_bread = nn.Conv2d(width, channels, 1, bias=False)
        self.breads = breads

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W], non-negative -> [B, C, H, W]."""
        hidden = self.ham(self.lower_bread(features) if self.breads else features)
        if hasattr(self, "cheese"):
            hidden = self.cheese(hidden)
        return F.relu((self.upper_bread(hidden) if self.breads else hidden) + features)


class HamburgerHead(nn.Module):
    """Maps at strides 4 to 32 -> logits at stride 8; the first map is not read.

    Args:
        in_channels: channels of all the maps, shallow to deep.
        num_classes: number of classes.
        channels: width of the head.
        ham_channels: width between the breads.
        rank: number of bases.
        breads: 1x1 convolutions around the factorisation.
        cheese: a 3x3 convolution after it.
        align: a 1x1 convolution after the hamburger.
        bases_seed: what the bases of evaluation are drawn from.
        classifier_key: "classifier.1" or "classifier", as the team named it from branch to branch.
        dropout: rate of channel dropout before the classifier, in training.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        channels: int = 512,
        ham_channels: int = 512,
        rank: int = 64,
        breads: bool = True,
        cheese: bool = False,
        align: bool = True,
        bases_seed: int = 0,
        classifier_key: str = "classifier.1",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if classifier_key not in ("classifier.1", "classifier"):
            raise UsageError(f'unknown classifier_key {classifier_key!r}; there are "classifier.1" and "classifier"')
        conv = nn.Conv2d(channels, num_classes, 1)
        bare = classifier_key == "classifier"
        self.classifier = conv if bare else nn.Sequential(nn.Dropout2d(dropout), conv)
        self.dropout = nn.Dropout2d(dropout) if bare else nn.Identity()
        self.squeeze = Squeeze(sum(in_channels[1:]), channels)
        self.ham_attn = TeamHamburger(channels, ham_channels, rank=rank, seed=bases_seed, breads=breads, cheese=cheese)
        self.align = Squeeze(channels, channels) if align else nn.Identity()

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, C_i, H_i, W_i] for each map -> [B, K, H_1, W_1]."""
        deeper = features[1:]
        squeezed = self.squeeze(torch.cat([resize(feature, deeper[0].shape[2:]) for feature in deeper], dim=1))
        return self.classifier(self.dropout(self.align(self.ham_attn(squeezed))))


build = HamburgerHead
