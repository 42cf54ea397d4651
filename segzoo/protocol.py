"""How an image becomes a network input and logits become a label map: the test protocol as plain data."""

from __future__ import annotations

import dataclasses
from typing import Literal

AUG_TEST_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """A published test protocol; the arithmetic is in segzoo/inference, the proof in tests/oracles/protocol.

    Attributes:
        mode: "whole" runs the network on the resized image, "slide" on overlapping windows of it.
        scale: limits (long side, short side) in pixels of the keep-ratio resize, in any order;
            None keeps the image's own size.
        ratios: factors on `scale`, one view for each.
        flip: adds a mirrored view for every ratio; views are averaged as softmax probabilities.
        flip_direction: "horizontal" or "vertical".
        crop: window (height, width) in pixels, for mode "slide".
        stride: step (height, width) between windows in pixels, for mode "slide".
        pad_windows: a window that is smaller than `crop` is padded with zeros (normalised space)
            at the bottom and right, and its logits are cut back (UN-EPT's rule).
        size_divisor: a second resize brings both sides up to a multiple of this (AlignResize).
        mean: per-channel RGB mean, in 0..255.
        std: per-channel RGB standard deviation, in 0..255.
    """

    mode: Literal["whole", "slide"] = "whole"
    scale: tuple[int, int] | None = (2048, 512)
    ratios: tuple[float, ...] = (1.0,)
    flip: bool = False
    flip_direction: Literal["horizontal", "vertical"] = "horizontal"
    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    pad_windows: bool = False
    size_divisor: int | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("crop", "stride"):
            value = getattr(self, name)
            if isinstance(value, int):
                object.__setattr__(self, name, (value, value))
        for name in ("scale", "ratios", "crop", "stride", "mean", "std"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        problem = self._problem()
        if problem:
            raise ValueError(problem)

    def _problem(self) -> str | None:
        if self.mode not in ("whole", "slide"):
            return f'mode is "whole" or "slide", not {self.mode!r}'
        if self.flip_direction not in ("horizontal", "vertical"):
            return f'flip_direction is "horizontal" or "vertical", not {self.flip_direction!r}'
        if self.mode == "slide" and (self.crop is None or self.stride is None):
            return 'mode "slide" needs crop and stride'
        pairs = [pair for pair in (self.scale, self.crop, self.stride) if pair is not None]
        if any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
            return f"scale, crop and stride are two positive sizes in pixels: {self}"
        if not self.ratios or min(self.ratios) <= 0:
            return f"ratios are positive and at least one, not {self.ratios}"
        if self.size_divisor is not None and self.size_divisor < 1:
            return f"size_divisor is positive, not {self.size_divisor}"
        return None

    @property
    def views(self) -> int:
        """Number of network views an image gets: ratios, doubled by flip."""
        return len(self.ratios) * (2 if self.flip else 1)

    def aug_test(self) -> Protocol:
        """The multi-scale and flip variant: six ratios from 0.5 to 1.75, mirrored too (12 views)."""
        return dataclasses.replace(self, ratios=AUG_TEST_RATIOS, flip=True)
