"""Operators that PyTorch lacks. Each has a readable reference for every device and a compiled kernel."""

from segzoo.kernels.deformable import deformable_attention
from segzoo.kernels.native import backend, describe, load, load_for, notes
from segzoo.kernels.neighborhood import neighborhood_attention_2d
from segzoo.kernels.tail import Taps, segmentation_tail

__all__ = [
    "Taps",
    "backend",
    "deformable_attention",
    "describe",
    "load",
    "load_for",
    "neighborhood_attention_2d",
    "notes",
    "segmentation_tail",
]
