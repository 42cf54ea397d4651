"""Position tables of a plain transformer, carried over to another number of patches.

The rules are those with which CAE and BEiT load a pretraining checkpoint at a higher resolution.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.errors import IntegrityError

# Rows at the end of a table of relative positions: class token as query, as key, with itself.
_CLASS_TOKEN_ROWS = 3


def resize_position_embedding(table: Tensor, tokens: int) -> Tensor:
    """[1, T, C] -> [1, tokens, C]: the square grid bicubically, what stands before it (class tokens) as it is.

    Raises:
        IntegrityError: the two do not have the same number of tokens before a square grid.
    """
    source, target = math.isqrt(table.shape[1]), math.isqrt(tokens)
    extra = table.shape[1] - source**2
    if extra != tokens - target**2:
        raise IntegrityError(f"{table.shape[1]} and {tokens} tokens are not class tokens and a square grid alike")
    if source == target:
        return table
    grid = table[:, extra:].float().transpose(1, 2).unflatten(2, (source, source))
    resized = F.interpolate(grid, size=(target, target), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :extra], resized.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


def resize_relative_table(table: Tensor, rows: int) -> Tensor:
    """[R, heads] -> [rows, heads] for tables of (2 * side - 1)**2 + 3 rows.

    Near distances keep their entries: the source's distances are laid out as 1, 1 + q, 1 + q + q**2, ...,
    with q such that they reach the target's largest distance, and a cubic spline is read at its integers.

    Raises:
        IntegrityError: a number of rows that is no such table's.
    """
    source, target = relative_span(table.shape[0]), relative_span(rows)
    if source is None or target is None:
        raise IntegrityError(f"{table.shape[0]} and {rows} rows are not both those of a table of relative positions")
    if source == target:
        return table
    weights = spline_weights(_stretched(source, target), np.arange(target) - target // 2)
    grid = table[:-_CLASS_TOKEN_ROWS].T.double().numpy().reshape(-1, source, source)
    resized = (weights @ grid @ weights.T).reshape(-1, target**2).T
    return torch.cat([torch.from_numpy(resized).to(table.dtype), table[-_CLASS_TOKEN_ROWS:]])


def relative_span(rows: int) -> int | None:
    """Entries along one axis of a table with this many rows, an odd number; None where that does not come out."""
    span = math.isqrt(max(0, rows - _CLASS_TOKEN_ROWS))
    return span if span % 2 == 1 and span**2 + _CLASS_TOKEN_ROWS == rows else None


def spline_weights(points: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """[S, P]: what each value at the P rising `points` contributes to an interpolating cubic spline at `samples`.

    The spline is the one without knots at the second and the last but one point ("not a knot"), as FITPACK's;
    samples beyond the points read the value at the end.
    """
    count, step = len(points), np.diff(points)
    if count < 4:
        raise ValueError(f"a cubic spline needs at least 4 points, not {count}")
    # Second derivatives at the points, as a linear function of the values there: left @ second = right @ values.
    left, right = np.zeros((count, count)), np.zeros((count, count))
    for i in range(1, count - 1):
        left[i, i - 1 : i + 2] = step[i - 1] / 6, (step[i - 1] + step[i]) / 3, step[i] / 6
        right[i, i - 1 : i + 2] = 1 / step[i - 1], -1 / step[i - 1] - 1 / step[i], 1 / step[i]
    left[0, :3] = step[1], -step[0] - step[1], step[0]
    left[-1, -3:] = step[-1], -step[-1] - step[-2], step[-2]
    second, values = np.linalg.solve(left, right), np.eye(count)
    inside = np.clip(samples, points[0], points[-1])
    k = np.clip(np.searchsorted(points, inside, side="right") - 1, 0, count - 2)
    below, above, width = (part[:, None] for part in (inside - points[k], points[k + 1] - inside, step[k]))
    return (
        (above**3 * second[k] + below**3 * second[k + 1]) / (6 * width)
        + above * (values[k] / width - second[k] * width / 6)
        + below * (values[k + 1] / width - second[k + 1] * width / 6)
    )


def _stretched(source: int, target: int) -> np.ndarray:
    """The coordinates of `source` entries on the axis of `target` entries; 0 in the middle."""
    # The bisection and its tolerance are the original's: a better q would give other weights.
    low, high, ratio = 1.01, 1.5, 0.0
    while high - low > 1e-6:
        ratio = (low + high) / 2
        reach = (1 - ratio ** (source // 2)) / (1 - ratio)
        low, high = (low, ratio) if reach > target // 2 else (ratio, high)
    distances = np.cumsum(ratio ** np.arange(source // 2))
    return np.concatenate([-distances[::-1], [0.0], distances])
