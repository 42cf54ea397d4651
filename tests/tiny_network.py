"""The tiny segmentor of the recorded protocol cases, and a picture of our own to look at with it."""

from __future__ import annotations

import numpy as np
import torch
from fill import fill_array
from torch import nn
from torch.nn import functional as F


class TinyNetwork(nn.Module):
    """Two convolutions, a global mean and a classifier at stride 4, with weights that are a function of `name`."""

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(3, 24, 3, stride=4, padding=1),
                "conv2": nn.Conv2d(24, 24, 3, dilation=6, padding=6),
                "pool": nn.Conv2d(24, 24, 1),
            }
        )
        self.decode_head = nn.ModuleDict({"conv_seg": nn.Conv2d(24, classes, 1)})
        filled = {key: fill_array(name + key, tuple(value.shape)) for key, value in self.state_dict().items()}
        self.load_state_dict({key: torch.from_numpy(values) for key, values in filled.items()})
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = F.relu(self.backbone["conv1"](image))
        features = F.relu(self.backbone["conv2"](features))
        features = features + self.backbone["pool"](features.mean(dim=(2, 3), keepdim=True))
        return 4.0 * self.decode_head["conv_seg"](features)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB [H, W, 3]: smooth patches with noise, so that edges and flat parts both occur."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, -(-height // 16), -(-width // 16))).astype(np.float32))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
    return np.clip(smooth.numpy() + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
