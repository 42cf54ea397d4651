"""Sliding windows over pictures of any size in bounded memory: the logits of a few rows of windows at a time.

A view's windows are run row by row of windows, from the top of the image to its bottom, all views beside each other.
A band of the image becomes labels as soon as the windows that cover it are there; rows of windows that reach no
further down give their place to the next. Where even that is too much, because the picture is wide, its columns are
worked off in panels, one after the other; only windows at the edge between two panels are then run twice.

What grows with the picture is the picture itself, once for every ratio, and the labels. The result is that of
keeping the logits of all windows.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from segzoo.inference.network import Network, padded
from segzoo.inference.preprocess import Image, input_size, normalise, resized_image
from segzoo.inference.resampling import Side, side_taps
from segzoo.inference.tail import Counting
from segzoo.inference.windows import Window, window_grid
from segzoo.kernels import Taps, segmentation_tail, tail_reference
from segzoo.protocol import Protocol

# Logits that are kept at once, of all views.
LIMIT_BYTES = 1024 * 2**20
_BAND_ROWS = 64
_CPU = torch.device("cpu")


def exceeds(network: Network, image: Image, protocol: Protocol, limit_bytes: int) -> bool:
    """Whether the logits of all windows of an image take more than `limit_bytes`."""
    if protocol.mode != "slide":
        return False
    pixels, largest = 0, (0, 0)
    for ratio in protocol.ratios:
        rows, columns = window_grid(input_size(image.shape[:2], protocol, ratio), protocol)
        size = rows[0].padded, columns[0].padded
        pixels += len(rows) * len(columns) * size[0] * size[1] * (2 if protocol.flip else 1)
        largest = max(largest, size, key=lambda side: side[0] * side[1])
    # Not even logits of 256 classes at full size: most images need no look at the network.
    if pixels * 4 * 256 <= limit_bytes:
        return False
    classes, height, width = network.logit_shape(largest)
    return pixels * 4 * classes * height * width // (largest[0] * largest[1]) > limit_bytes


def streamed_label_map(
    network: Network,
    image: Image,
    protocol: Protocol,
    *,
    limit_bytes: int,
    counting: Counting | None = None,
    confidence: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Labels and counts of an image as `label_map` gives them, with logits of about `limit_bytes` at a time.

    Args:
        confidence: float32 [H, W] on the CPU, which gets the probability of each label; None needs none.
    """
    views = list(_views(network, image, protocol))
    height, width = image.shape[:2]
    labels: Tensor | None = None
    counts = torch.zeros((0, 0), dtype=torch.int64)
    for columns in _panels(views, width, limit_bytes):
        rings = [_Ring(network=network, view=view, columns=columns) for view in views]
        for rows in _bands(height):
            taps = [ring.reach(rows) for ring in rings]
            found, counted = _label_band(rings, taps, rows, columns, counting)
            if confidence is not None:
                confidence[rows, columns] = _confidence_of_band(rings, taps)
            labels = found.new_empty(height, width, device=_CPU) if labels is None else labels
            labels[rows, columns] = found.cpu()
            counts = counted.cpu() + counts if counts.numel() else counted.cpu()
    assert labels is not None
    return labels, counts


def _confidence_of_band(rings: list[_Ring], taps: list[Taps]) -> Tensor:
    sums = tail_reference.Sums(views=len(rings), confident=True)
    rows = [(item.sources, item.weights) for item in taps]
    sums.add([ring.logits for ring in rings], rows, [(r.column_taps.sources, r.column_taps.weights) for r in rings])
    assert sums.confidence is not None
    return sums.confidence.cpu()


def _label_band(
    rings: list[_Ring], taps: list[Taps], rows: slice, columns: slice, counting: Counting | None
) -> tuple[Tensor, Tensor]:
    device = rings[0].network.device
    if counting is None:
        return segmentation_tail([ring.logits for ring in rings], taps, [ring.column_taps for ring in rings])
    return segmentation_tail(
        [ring.logits for ring in rings],
        taps,
        [ring.column_taps for ring in rings],
        target=counting.target[rows, columns].to(device),
        num_classes=counting.num_classes,
        ignore=counting.ignore,
    )


@dataclass(frozen=True, kw_only=True)
class _View:
    """One ratio, mirrored or not: the picture, its windows, and how their logits of C classes become the image."""

    picture: Image
    mirrored: str | None
    protocol: Protocol
    rows: Side
    columns: Side
    classes: int

    def window(self, rows: Window, columns: Window) -> Tensor:
        """The network's input for one window, [3, H, W]."""
        height, width = self.picture.shape[:2]
        top, left = rows.start, columns.start
        if self.mirrored == "horizontal":
            left = width - columns.stop
        elif self.mirrored == "vertical":
            top = height - rows.stop
        cut = self.picture[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        if self.mirrored is not None:
            cut = cut[:, ::-1] if self.mirrored == "horizontal" else cut[::-1]
        pixels = normalise(np.ascontiguousarray(cut), self.protocol.mean, self.protocol.std)
        return padded(pixels, rows, columns)

    @functools.cached_property
    def slots(self) -> int:
        """The most rows of windows that a band of the image is made of."""
        return max(len(_windows_of(self.rows, rows)) for rows in _bands(self.rows.image))

    def bytes_for(self, columns: slice) -> int:
        """Memory of the logits that these pixel columns need at once."""
        reached = len(_windows_of(self.columns, columns)) * self.columns.logits
        return 4 * self.classes * self.slots * self.rows.logits * reached


def _views(network: Network, image: Image, protocol: Protocol) -> Iterator[_View]:
    for ratio in protocol.ratios:
        picture = resized_image(image, protocol, ratio)
        rows, columns = window_grid((picture.shape[0], picture.shape[1]), protocol)
        classes, height, width = network.logit_shape((rows[0].padded, columns[0].padded))
        for mirrored in (None, protocol.flip_direction) if protocol.flip else (None,):
            yield _View(
                picture=picture,
                mirrored=mirrored,
                protocol=protocol,
                rows=Side(image=image.shape[0], windows=rows, logits=height, mirrored=mirrored == "vertical"),
                columns=Side(image=image.shape[1], windows=columns, logits=width, mirrored=mirrored == "horizontal"),
                classes=classes,
            )


def _bands(height: int) -> Iterator[slice]:
    for start in range(0, height, _BAND_ROWS):
        yield slice(start, min(start + _BAND_ROWS, height))


def _windows_of(side: Side, pixels: slice) -> list[int]:
    """The windows that some pixels of the image are made of, ascending."""
    taps = side_taps(side, _CPU)
    used = taps.sources[pixels][taps.weights[pixels] > 0] // side.logits
    return torch.unique(used).tolist()


def _panels(views: list[_View], width: int, limit_bytes: int) -> list[slice]:
    """The image's columns in as few equal parts as keep the logits within the limit."""
    # More panels than windows would have to run every window more than once, and save little.
    most = max(len(view.columns.windows) for view in views)
    for count in range(1, most + 1):
        cuts = [width * part // count for part in range(count + 1)]
        panels = [slice(start, stop) for start, stop in itertools.pairwise(cuts) if start < stop]
        if max(sum(view.bytes_for(panel) for view in views) for panel in panels) <= limit_bytes:
            break
    return panels


@dataclass(kw_only=True)
class _Ring:
    """The logits [C, slots * h, windows * w] of the rows of windows in use, of one view and panel.

    A row of windows has a slot, and the windows that the panel's columns are made of stand side by side in it.
    """

    network: Network
    view: _View
    columns: slice
    _held: list[int | None] = field(default_factory=list)
    _places: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        view, side = self.view, self.view.columns
        self._places = _windows_of(side, self.columns)
        self._held = [None] * view.slots
        shape = view.classes, len(self._held) * view.rows.logits, len(self._places) * side.logits
        self.logits = torch.empty(shape, device=self.network.device)
        taps = side_taps(side, self.network.device)
        first = self._places[0] * side.logits
        self.column_taps = Taps(
            sources=(taps.sources[self.columns] - first).contiguous(), weights=taps.weights[self.columns].contiguous()
        )

    def reach(self, rows: slice) -> Taps:
        """Runs the windows that pixel rows of the image need and that are not there; returns the rows' taps."""
        side = self.view.rows
        needed = _windows_of(side, rows)
        for row in needed:
            if row not in self._held:
                slot = next(slot for slot, held in enumerate(self._held) if held not in needed)
                self._held[slot] = row
                self._run(row, slot)
        taps = side_taps(side, _CPU)
        slots = torch.zeros(len(side.windows), dtype=torch.int32)
        for slot, held in enumerate(self._held):
            if held is not None:
                slots[held] = slot
        sources = taps.sources[rows]
        moved = slots[(sources // side.logits).long()] * side.logits + sources % side.logits
        device = self.network.device
        return Taps(sources=moved.to(device), weights=taps.weights[rows].contiguous().to(device))

    def _run(self, row: int, slot: int) -> None:
        view, batch_size = self.view, self.network.batch_size
        height, width = view.rows.logits, view.columns.logits
        target = self.logits[:, slot * height : (slot + 1) * height]
        for start in range(0, len(self._places), batch_size):
            chosen = self._places[start : start + batch_size]
            windows = [view.window(view.rows.windows[row], view.columns.windows[place]) for place in chosen]
            logits = self.network.logits([window.to(self.network.device) for window in windows])
            for number, values in enumerate(logits, start):
                target[:, :, number * width : (number + 1) * width] = values
