"""The evaluation tail: logits of 150 classes at stride 4 -> the confusion matrix of one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.inference.resampling import Side
from segzoo.inference.tail import Counting, LogitMap, label_map
from segzoo.inference.windows import windows
from segzoo.kernel_bench.contest import Contest

CLASSES, HEIGHT, WIDTH = 150, 512, 683
_CPU = torch.device("cpu")
_STRIDE = 4
_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
View = tuple[Tensor, tuple[int, int], bool]
"""Logits [1, C, h, w], the network's input size, and whether the view is mirrored."""


def one_view_contests(device: torch.device = _CPU) -> list[Contest]:
    """One view: 128x171 -> 512x683; with smooth logits, and with random ones."""
    return _contests("one view", (1.0,), mirrored=(False,), device=device)


def twelve_views_contests(device: torch.device = _CPU) -> list[Contest]:
    """Six scales, each also mirrored; with smooth logits, and with random ones."""
    return _contests("12 views", _SCALES, mirrored=(False, True), device=device)


def _contests(case: str, scales: Sequence[float], *, mirrored: Sequence[bool], device: torch.device) -> list[Contest]:
    """Smooth logits are like a network's; random ones are the worst case for whoever skips classes."""
    names = {True: case, False: f"{case}, random logits"}
    return [
        _contest(name, _views(scales, mirrored=mirrored, smooth=smooth, device=device), device)
        for smooth, name in names.items()
    ]


def _contest(case: str, views: list[View], device: torch.device = _CPU) -> Contest:
    label = torch.randint(0, CLASSES, (HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))
    label = label.to(device, torch.uint8)
    return Contest(case=case, ours=_ours(views, label), rival=_published(views, label))


def _views(
    scales: Sequence[float], *, mirrored: Sequence[bool], smooth: bool = True, device: torch.device = _CPU
) -> list[View]:
    generator = torch.Generator().manual_seed(0)
    views = []
    for scale in scales:
        size = round(HEIGHT * scale), round(WIDTH * scale)
        height, width = (-(-side // _STRIDE) for side in size)
        for flipped in mirrored:
            # Of smooth logits neighbours differ by less than the classes do.
            drawn = (2 + height // 8, 2 + width // 8) if smooth else (height, width)
            logits = torch.randn(1, CLASSES, *drawn, generator=generator) * 3
            logits = F.interpolate(logits, size=(height, width), mode="bicubic") if smooth else logits
            views.append((logits.to(device), size, flipped))
    return views


def _ours(views: list[View], label: Tensor) -> Callable[[], object]:
    def rows(length: int, network: int, logits: int, mirrored: bool) -> Side:
        return Side(image=length, windows=windows(network, network, network), logits=logits, mirrored=mirrored)

    maps = [
        LogitMap(
            values=logits[0],
            rows=rows(HEIGHT, size[0], logits.shape[2], False),
            columns=rows(WIDTH, size[1], logits.shape[3], flipped),
        )
        for logits, size, flipped in views
    ]
    counting = Counting(target=label, num_classes=CLASSES, ignore=255)

    @torch.inference_mode()
    def run() -> object:
        return label_map(maps, count=len(maps), counting=counting)[1]

    return run


def _published(views: list[View], label: Tensor) -> Callable[[], object]:
    """The steps of mmsegmentation's inference and evaluation, each at full size."""

    @torch.inference_mode()
    def run() -> object:
        total: Tensor | None = None
        for logits, size, flipped in views:
            upsampled = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            resized = F.interpolate(upsampled, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
            probability = F.softmax(resized, dim=1)
            probability = probability.flip(3) if flipped else probability
            total = probability if total is None else total + probability
        assert total is not None
        prediction = (total / len(views) if len(views) > 1 else total).argmax(dim=1)[0]
        pairs = label.long() * CLASSES + prediction
        return torch.bincount(pairs.flatten(), minlength=CLASSES**2)

    return run
