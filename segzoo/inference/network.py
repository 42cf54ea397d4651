"""Runs any network over the views and windows of an image and lays its logits out for the tail."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo import kernels
from segzoo.device import plain_errors, precision
from segzoo.errors import SegzooError, UsageError
from segzoo.inference.preprocess import Image, flip, network_input
from segzoo.inference.resampling import Side
from segzoo.inference.tail import LogitMap
from segzoo.inference.windows import Window, window_grid
from segzoo.protocol import Protocol

_GPU_BATCH = 16


class Network:
    """A model with the device and number format it runs in. The first one may compile the evaluation tail.

    Args:
        model: any module that maps float32 [B, 3, H, W] to logits [B, C, h, w], at any stride.
        device: where the input goes; default: where the model's tensors are.
        dtype: "fp32", "tf32", "bf16" or "fp16" (autocast).
        batch_size: windows (and mirrored views) of one image that the network gets at once; default 1 on the CPU,
            where more is not faster, and 16 on other devices.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: torch.device | str | None = None,
        dtype: str = "fp32",
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"impossible batch size {batch_size}: give at least 1")
        self.model = model
        self.device = torch.device(device) if device is not None else device_of(model)
        self.dtype = dtype
        kernels.load(self.device, only=["segmentation_tail"])
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else _GPU_BATCH)
        self._shapes: dict[tuple[int, int], tuple[int, int, int]] = {}

    def views(self, image: Image, protocol: Protocol) -> Iterator[LogitMap]:
        """The logits of every view of an image, in the protocol's order: for each ratio as it is, then mirrored.

        Raises:
            UsageError: a ratio that leaves no pixels, or an input the model cannot run.
            SegzooError: logits that are not finite or no logits at all; out of memory.
        """
        for ratio in protocol.ratios:
            pixels = network_input(image, protocol, ratio).to(self.device)
            yield from self._mosaics(pixels, image.shape[:2], protocol)

    def _mosaics(self, pixels: Tensor, image_size: tuple[int, int], protocol: Protocol) -> list[LogitMap]:
        """The unmirrored and, with flip, the mirrored view of one network input [3, H, W]."""
        rows, columns = window_grid((pixels.shape[1], pixels.shape[2]), protocol)
        versions = [pixels, flip(pixels, protocol.flip_direction)] if protocol.flip else [pixels]
        places = [(v, i, j) for v in range(len(versions)) for i in range(len(rows)) for j in range(len(columns))]
        mosaics: list[Tensor] = []
        height = width = 0
        for start in range(0, len(places), self.batch_size):
            chosen = places[start : start + self.batch_size]
            logits = self.logits([cut_window(versions[v], rows[i], columns[j]) for v, i, j in chosen])
            if len(rows) == len(columns) == 1:
                mosaics.extend(logits)
                height, width = logits.shape[2:]
                continue
            if not mosaics:
                classes, height, width = logits.shape[1:]
                shape = classes, len(rows) * height, len(columns) * width
                mosaics = [logits.new_empty(shape) for _ in versions]
            for (v, i, j), window_logits in zip(chosen, logits, strict=True):
                mosaics[v][:, i * height : (i + 1) * height, j * width : (j + 1) * width] = window_logits
        return [
            LogitMap(
                values=values,
                rows=Side(
                    image=image_size[0],
                    windows=rows,
                    logits=height,
                    mirrored=mirrored and protocol.flip_direction == "vertical",
                ),
                columns=Side(
                    image=image_size[1],
                    windows=columns,
                    logits=width,
                    mirrored=mirrored and protocol.flip_direction == "horizontal",
                ),
            )
            for mirrored, values in zip((False, True), mosaics, strict=False)
        ]

    def logits(self, windows: list[Tensor]) -> Tensor:
        """Logits [B, C, h, w] of windows [3, H, W] of one size, float32 or bfloat16.

        Raises:
            UsageError: an input the model cannot run, or no logits.
            SegzooError: logits that are not finite; out of memory.
        """
        batch = windows[0][None] if len(windows) == 1 else torch.stack(windows)
        words = f"an input of {'x'.join(map(str, batch.shape))}"
        with plain_errors(words, smaller="crop"), precision(self.device, self.dtype):
            logits = self.model(batch)
        checked = _checked(logits, batch)
        return checked if checked.dtype in (torch.float32, torch.bfloat16) else checked.float()

    def logit_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, h, w) of the logits for a window of this height and width; found by running one the first time."""
        if size not in self._shapes:
            _, classes, height, width = self.logits([torch.zeros(3, *size, device=self.device)]).shape
            self._shapes[size] = classes, height, width
        return self._shapes[size]


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters (or else its buffers) are; the CPU for a model without any."""
    for tensors in (model.parameters(), model.buffers()):
        if (tensor := next(iter(tensors), None)) is not None:
            return tensor.device
    return torch.device("cpu")


def cut_window(pixels: Tensor, rows: Window, columns: Window) -> Tensor:
    """The pixels of a window of [3, H, W], padded with zeros (the mean colour) at the bottom and right."""
    return padded(pixels[:, rows.start : rows.stop, columns.start : columns.stop], rows, columns)


def padded(window: Tensor, rows: Window, columns: Window) -> Tensor:
    """The pixels [3, H, W] of a window with the zeros at the bottom and right that it is to have."""
    below, beside = rows.padded - window.shape[1], columns.padded - window.shape[2]
    return F.pad(window, (0, beside, 0, below)) if below or beside else window


def _checked(logits: object, batch: Tensor) -> Tensor:
    """`logits`, when they are finite numbers of shape [B, C, h, w]."""
    if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[0] != batch.shape[0] or not logits.numel():
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(
            f"the model gave {found} for a batch {list(batch.shape)}; it must give logits [B, C, h, w] "
            "(wrap a model that gives a tuple or dictionary)"
        )
    # A NaN would win or lose every comparison in silence; smallest and largest carry it on.
    smallest, largest = torch.aminmax(logits)
    if not (torch.isfinite(smallest) and torch.isfinite(largest)):
        raise SegzooError(
            f"the model's logits are not finite: they reach from {float(smallest)} to {float(largest)}; "
            "check the weights, or use --dtype fp32"
        )
    return logits
