"""Operators that PyTorch lacks. Each has a readable reference for every device and a compiled kernel."""

from segzoo.kernels.deformable import deformable_attention
from segzoo.kernels.native import backend, describe, load, load_for, notes
from segzoo.kernels.neighborhood import neighborhood_attention_2d

__all__ = ["backend", "deformable_attention", "describe", "load", "load_for", "neighborhood_attention_2d", "notes"]
