"""Sliding windows: where they lie along one side of the image."""

from __future__ import annotations

from dataclasses import dataclass

from segzoo.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of one side of the network input that the network sees at once.

    Attributes:
        start: first pixel.
        stop: pixel after the last.
        padded: pixels that the network gets: stop - start, or more when the window is padded with zeros.
    """

    start: int
    stop: int
    padded: int


def windows(length: int, crop: int, stride: int, *, pad: bool = False) -> tuple[Window, ...]:
    """The windows along a side of `length` pixels, in order.

    They begin every `stride` pixels; the last is shifted back so that it ends with the side and is as
    long as the others. A side shorter than `crop` gets one short window, padded to `crop` with `pad`.
    """
    count = max(length - crop + stride - 1, 0) // stride + 1
    found = []
    for index in range(count):
        stop = min(index * stride + crop, length)
        start = max(stop - crop, 0)
        found.append(Window(start=start, stop=stop, padded=crop if pad else stop - start))
    return tuple(found)


def window_grid(size: tuple[int, int], protocol: Protocol) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """The windows along the height and along the width of a network input; one of each for mode "whole"."""
    if protocol.mode == "whole" or protocol.crop is None or protocol.stride is None:
        height, width = size
        return windows(height, height, height), windows(width, width, width)
    (crop_height, crop_width), (step_height, step_width) = protocol.crop, protocol.stride
    return (
        windows(size[0], crop_height, step_height, pad=protocol.pad_windows),
        windows(size[1], crop_width, step_width, pad=protocol.pad_windows),
    )
