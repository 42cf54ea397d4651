"""A data set whose colours say the class, and a model that reads them: what comes out is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from segzoo.protocol import Protocol

# No resize, and pixels reach the model as they are stored.
AS_STORED = Protocol(scale=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
STEP = 20


class ColourModel(nn.Module):
    """Class i where red is i * STEP; the nearest one elsewhere. Logits at the input's resolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.arange(classes) * float(STEP))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return -(image[:, :1] - self.levels[:, None, None]).abs()


def write(root: Path, name: str, seen: np.ndarray, label: np.ndarray) -> None:
    """A pair whose picture shows the classes `seen` and whose label file holds `label`."""
    for folder in ("images", "labels"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.repeat((seen * STEP).astype(np.uint8)[..., None], 3, axis=-1)
    Image.fromarray(pixels).save(root / "images" / f"{name}.png")
    Image.fromarray(label.astype(np.uint8)).save(root / "labels" / f"{name}.png")


def write_set(root: Path, count: int, classes: int = 3, size: tuple[int, int] = (6, 9)) -> Path:
    """`count` pairs of random classes, every third pixel or so seen wrong and a few ignored."""
    rng = np.random.default_rng(7)
    for number in range(count):
        label = rng.integers(0, classes, size)
        seen = np.where(rng.random(size) < 0.3, rng.integers(0, classes, size), label)
        label[rng.random(size) < 0.1] = 255
        write(root, f"{number:03d}", seen, label)
    (root / "classes.txt").write_text("\n".join(f"class {index}" for index in range(classes)))
    return root
