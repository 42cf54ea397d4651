"""A model, a data set and weights of a user's own, for the tests that evaluate from the command line."""

from __future__ import annotations

from pathlib import Path

import torch
from colour_model import write_set

MANIFEST = """
datasets:
  mine:
    splits: {val: {images: images, labels: labels, count: 3}}
    classes: [cat, dog, cow]
    palette: [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
protocols:
  small: {mode: whole, scale: [64, 64]}
models:
  tiny-nat:
    architecture:
      backbone: {type: nat, embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1], kernel_size: 3, mlp_ratio: 1.0}
      head: {type: upernet, channels: 4, dropout: 0.0}
    dataset: mine
    num_classes: 3
    protocol: small
    published: {miou: 44.0, miou_ms: 45.5, tolerance: 0.3, source: nowhere}
"""


def write_all(folder: Path) -> None:
    """The manifest zoo.yaml with the model tiny-nat, its data set `mine` of three images, and weights.pth."""
    (folder / "zoo.yaml").write_text(MANIFEST)
    write_set(folder / "mine", 3)
    from segzoo.registry import create_model

    torch.manual_seed(0)
    torch.save(create_model("tiny-nat").state_dict(), folder / "weights.pth")


def words(user: Path, *more: str) -> list[str]:
    """An evaluation of the model with its weights."""
    return ["eval", "tiny-nat", "--checkpoint", str(user / "weights.pth"), "--device", "cpu", *more]


def one_line(result, code: int) -> str:
    """The error of a call that failed as it should: nothing on stdout, one line and no traceback on stderr."""
    lines = [line for line in result.err.splitlines() if line]
    assert result.code == code, result
    assert result.out == "" and len(lines) == 1 and lines[0].startswith("segzoo: error: "), result
    return lines[0]


def forget_manifest() -> None:
    """The manifest is read once a process; a changed file needs a new one, or this."""
    from segzoo.zoo import manifest

    manifest._load.cache_clear()
