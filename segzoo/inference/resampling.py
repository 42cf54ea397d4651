"""One side of the way from logits to the image: upsampling, window averaging and the second resize as one matrix.

The published chain upsamples the logits to the network's input size, averages overlapping windows there, and
resizes the result to the image's size. All three are linear and act on rows and columns independently, so that
along each side they are one sparse matrix [image side, logit side]; of a sliding window the logit side is the
windows' maps laid one after the other. Every entry is at least 0 and every row sums to 1: what comes out lies
between the smallest and the largest of the logits it is made of.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.inference.windows import Window


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


@dataclass(frozen=True)
class Run:
    """Consecutive logits and their share in a block's pixels.

    Attributes:
        start: index of the first, along the logit side (windows after one another).
        stop: index after the last.
        weights: float32 [pixels of the block, stop - start].
    """

    start: int
    stop: int
    weights: Tensor


@dataclass(frozen=True)
class Block:
    """A few consecutive pixels of the image and the logits they are made of.

    Attributes:
        start: first pixel of the image.
        stop: pixel after the last.
        runs: one for the whole image, one for each window that covers the pixels with sliding windows.
        weights: float32 [stop - start, S], the runs' weights side by side.
    """

    start: int
    stop: int
    runs: tuple[Run, ...]
    weights: Tensor


@functools.lru_cache(maxsize=256)
def blocks(side: Side, length: int, device: torch.device) -> tuple[Block, ...]:
    """The whole side in blocks of `length` pixels, the last one shorter, with tensors on `device`.

    Kept for the sides seen last: the images of a data set share a few sizes.
    """
    return tuple(_block(side, start, min(start + length, side.image), device) for start in range(0, side.image, length))


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


def _bilinear_rows(size_in: int, size_out: int, start: int, stop: int) -> tuple[int, NDArray[np.float64]]:
    """Rows start..stop of the matrix [size_out, size_in], cut to the columns in use, and the first of these."""
    lefts, rights, weights = bilinear_taps(size_in, size_out)
    left, right, weight = lefts[start:stop], rights[start:stop], weights[start:stop]
    first = int(left.min())
    matrix = np.zeros((stop - start, int(right.max()) + 1 - first))
    pixels = np.arange(stop - start)
    matrix[pixels, left - first] += np.float32(1) - weight
    matrix[pixels, right - first] += weight
    return first, matrix


def _block(side: Side, start: int, stop: int, device: torch.device) -> Block:
    begin, end = (side.image - stop, side.image - start) if side.mirrored else (start, stop)
    first, second_resize = _bilinear_rows(side.network, side.image, begin, end)
    covered = _windows_over(side.windows, first, first + second_resize.shape[1])
    columns, weights = [], []
    for number, window in enumerate(side.windows):
        low, high = max(first, window.start), min(first + second_resize.shape[1], window.stop)
        if low >= high:
            continue
        averaged = second_resize[:, low - first : high - first] / covered[low - first : high - first]
        source, upsampling = _bilinear_rows(side.logits, window.padded, low - window.start, high - window.start)
        columns.append(number * side.logits + source + np.arange(upsampling.shape[1]))
        weights.append(averaged @ upsampling)
    matrix = np.concatenate(weights, axis=1)
    if side.mirrored:
        matrix = matrix[::-1]
    used = matrix.any(axis=0)
    used_weights = torch.from_numpy(matrix[:, used].astype(np.float32)).to(device)
    return Block(start, stop, tuple(_runs(np.concatenate(columns)[used], used_weights)), used_weights)


def _runs(sources: NDArray[np.int64], weights: Tensor) -> Iterator[Run]:
    """Splits ascending source indices where one is left out."""
    breaks = np.flatnonzero(np.diff(sources) != 1) + 1
    for first, last in itertools.pairwise([0, *breaks.tolist(), len(sources)]):
        yield Run(int(sources[first]), int(sources[last - 1]) + 1, weights[:, first:last])


def _windows_over(windows: tuple[Window, ...], first: int, last: int) -> NDArray[np.float64]:
    """How many windows cover each pixel of the network's input from `first` to `last`."""
    pixels = np.arange(first, last)
    return np.sum([(window.start <= pixels) & (pixels < window.stop) for window in windows], axis=0, dtype=np.float64)
