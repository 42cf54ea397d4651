"""A training that takes seconds: a drawn folder of pictures, a network of a few thousand weights, a short recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

MANIFEST = """
recipes:
  tiny:
    lr: 0.01
    weight_decay: 0.01
    paramwise: {norm: {decay_mult: 0.0}}
    schedule: {policy: poly, power: 1.0}
    warmup: {policy: linear, iterations: 2, ratio: 0.001}
    iterations: 8
    batch_size: 4
    crop: [32, 48]
    scale: [64, 48]
    sync_batch_norm: true
  # Plain steps: AdamW's first ones have the size of the rate for any gradient, were it rounding alone.
  tiny-sgd:
    optimizer: sgd
    lr: 0.05
    momentum: 0.9
    iterations: 4
    batch_size: 4
    crop: [32, 48]
    scale: [64, 48]
    sync_batch_norm: true
models:
  tiny:
    architecture:
      backbone:
        {type: nat, embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1], kernel_size: 3, mlp_ratio: 1.0}
      head: {type: upernet, channels: 8, dropout: 0.0}
    dataset: scenes
    num_classes: 16
    protocol: scenes-whole
    recipe: tiny
  # Without batch norm.
  tiny-plain:
    architecture:
      backbone:
        {type: nat, embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1], kernel_size: 3, mlp_ratio: 1.0}
      head: {type: fcn, in_index: 1, channels: 16, num_convs: 0, dropout: 0.0}
    dataset: scenes
    num_classes: 16
    protocol: scenes-whole
    recipe: tiny
"""


def make_pictures(folder: Path, *, classes: int = 3, train: int = 10, val: int = 3) -> Path:
    """A data set folder: rectangles of class 1.. on class 0, each class in its colour with noise."""
    draws = np.random.default_rng(0)
    colours = draws.integers(0, 256, (classes, 3))
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            label = np.zeros((48, 64), np.uint8)
            for index in range(1, classes):
                top, left = draws.integers(0, 24), draws.integers(0, 32)
                label[top : top + 20, left : left + 24] = index
            image = np.clip(colours[label] + draws.normal(0, 12, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / "images" / split / f"{number:03d}.png")
            Image.fromarray(label).save(folder / "labels" / split / f"{number:03d}.png")
    (folder / "classes.txt").write_text("".join(f"class {index}\n" for index in range(classes)))
    return folder


def make_manifest(folder: Path) -> Path:
    """The manifest with model and recipe "tiny"."""
    path = folder / "tiny.yaml"
    path.write_text(MANIFEST)
    return path
