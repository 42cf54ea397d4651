"""One side of the way from logits to the image: upsampling, window averaging and the second resize in one step.

The published chain upsamples the logits to the network's input size, averages overlapping windows there, and
resizes the result to the image's size. All three are linear and act on rows and columns independently, so that
along each side they are one sparse matrix [image side, logit side]; of a sliding window the logit side is the
windows' maps laid one after the other. Every entry is at least 0 and every row sums to 1: what comes out lies
between the smallest and the largest of the logits it is made of.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from segzoo.inference.windows import Window
from segzoo.kernels import Taps


@dataclass(frozen=True, kw_only=True)
class Side:
    """The rows or the columns of one view.

    Attributes:
        image: pixels of the image along this side, which the labels have too.
        windows: what the network saw; together they cover the network's input.
        logits: length of each window's logit map.
        mirrored: the view was flipped along this side.
    """

    image: int
    windows: tuple[Window, ...]
    logits: int
    mirrored: bool = False

    @property
    def network(self) -> int:
        """Pixels of the network's input along this side, without padding."""
        return self.windows[-1].stop


@functools.lru_cache(maxsize=256)
def side_taps(side: Side, device: torch.device) -> Taps:
    """The logits that every pixel of a side is made of, for segzoo.kernels.segmentation_tail.

    Kept for the sides seen last: the images of a data set share a few sizes.
    """
    sources, weights = _merged(*_composed(side))
    return Taps(
        sources=torch.from_numpy(sources.astype(np.int32)).to(device),
        weights=torch.from_numpy(weights.astype(np.float32)).to(device),
    )


@functools.lru_cache(maxsize=64)
def bilinear_taps(size_in: int, size_out: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Of each of `size_out` pixels the left source, the right source and the right one's weight.

    The rule of torch.nn.functional.interpolate(mode="bilinear", align_corners=False), in its own float32
    arithmetic: exact positions would differ by up to 1e-5 of a pixel in large images.
    """
    scale = np.float32(size_in) / np.float32(size_out)
    position = scale * (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    left = np.minimum(position.astype(np.int64), size_in - 1)
    right = np.minimum(left + 1, size_in - 1)
    return left, right, np.clip(position - left.astype(np.float32), np.float32(0), np.float32(1))


def _composed(side: Side) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sources and weights [image, entries], with repetitions and with entries of weight 0."""
    pixels, shares = _pairs(side.network, side.image)
    if side.mirrored:
        pixels, shares = pixels[::-1], shares[::-1]
    covered = np.zeros(side.network)
    for window in side.windows:
        covered[window.start : window.stop] += 1
    shares = shares / covered[pixels]
    sources, weights = [], []
    for number, window in enumerate(side.windows):
        inside = (window.start <= pixels) & (pixels < window.stop)
        if not inside.any():
            continue
        logits, parts = _pairs(side.logits, window.padded)
        places = np.where(inside, pixels - window.start, 0)
        sources.append(number * side.logits + logits[places].reshape(side.image, 4))
        weights.append((parts[places] * (shares * inside)[:, :, None]).reshape(side.image, 4))
    return np.concatenate(sources, axis=1), np.concatenate(weights, axis=1)


def _pairs(size_in: int, size_out: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Left and right source [size_out, 2] and their weights."""
    left, right, weight = bilinear_taps(size_in, size_out)
    return np.stack([left, right], 1), np.stack([np.float32(1) - weight, weight], 1).astype(np.float64)


def _merged(sources: NDArray[np.int64], weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same sums with every source once in a row, ascending, and rows of equal length.

    A row that is shorter than the longest repeats its first source with weight 0.
    """
    last = np.where(weights > 0, sources, np.iinfo(np.int64).max)
    order = np.argsort(last, axis=1, kind="stable")
    sources, weights = np.take_along_axis(last, order, 1), np.take_along_axis(weights, order, 1)
    used = weights > 0
    places = np.zeros(sources.shape, np.int64)
    places[:, 1:] = np.cumsum((sources[:, 1:] != sources[:, :-1]) & used[:, 1:], axis=1)
    rows = np.broadcast_to(np.arange(len(sources))[:, None], sources.shape)[used]
    shape = len(sources), int(places[used].max()) + 1
    merged, total = np.repeat(sources[:, :1], shape[1], axis=1), np.zeros(shape)
    merged[rows, places[used]] = sources[used]
    np.add.at(total, (rows, places[used]), weights[used])
    return merged, total
