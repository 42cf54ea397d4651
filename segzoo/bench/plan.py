"""What a benchmark runs: cells of model x device x dtype x shape x batch x scope, from words or from a suite file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from segzoo.errors import UsageError
from segzoo.registry import select

YARDSTICK = "yardstick"
"""Stands for a ResNet-50 of timm, 224x224, batch 1, float32: the same on every machine and in every run."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to measure.

    Attributes:
        model: a name of the zoo, or `YARDSTICK`.
        height: of the input in pixels; of the picture for scope "protocol".
        width: see `height`.
        threads: of PyTorch on the CPU; its default where None.
        fused: batch norms folded before measuring.
        backend: "torch" or "onnxruntime".
        repetitions: timed calls of a round; as many as `segzoo latency` takes where None.
    """

    model: str
    device: str = "auto"
    dtype: str = "fp32"
    height: int = 512
    width: int = 512
    batch_size: int = 1
    scope: Literal["model", "protocol"] = "model"
    threads: int | None = None
    compile: bool = False
    channels_last: bool = False
    fused: bool = False
    backend: Literal["torch", "onnxruntime"] = "torch"
    repetitions: int | None = None

    @property
    def key(self) -> str:
        """All that makes the cell, in words; equal keys are the same measurement."""
        switches = [word for word in ("compile", "channels_last", "fused") if getattr(self, word)]
        return " ".join(
            [
                self.model,
                self.device,
                self.dtype,
                f"{self.height}x{self.width}",
                f"batch={self.batch_size}",
                self.scope,
                f"threads={self.threads or 'default'}",
                f"repetitions={self.repetitions or 'default'}",
                self.backend,
                *switches,
            ]
        )

    def yardstick(self) -> Cell:
        """The yardstick on the device and threads of this cell."""
        return Cell(
            model=YARDSTICK,
            device=self.device,
            threads=self.threads,
            height=224,
            width=224,
            repetitions=self.repetitions,
        )


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All combinations of some models and conditions; a suite is a list of such blocks."""

    models: tuple[str, ...]
    devices: tuple[str, ...] = ("auto",)
    dtypes: tuple[Literal["fp32", "tf32", "bf16", "fp16"], ...] = ("fp32",)
    shapes: tuple[str | int, ...] = ("512x512",)
    batch_sizes: tuple[int, ...] = (1,)
    scopes: tuple[Literal["model", "protocol"], ...] = ("model",)
    threads: tuple[int | None, ...] = (None,)
    compile: bool = False
    channels_last: bool = False
    fuse: bool = False
    backend: Literal["torch", "onnxruntime"] = "torch"
    repetitions: int | None = None

    def cells(self) -> list[Cell]:
        """The cells in the order written, the model turning slowest.

        Raises:
            UsageError: unknown models, impossible shapes or numbers.
        """
        self._demand_sense()
        grid = itertools.product(
            select([*self.models]),
            self.devices,
            self.dtypes,
            [_sides(shape) for shape in self.shapes],
            self.batch_sizes,
            self.scopes,
            self.threads,
        )
        return [
            Cell(
                model=model,
                device=device,
                dtype=dtype,
                height=height,
                width=width,
                batch_size=batch_size,
                scope=scope,
                threads=threads,
                compile=self.compile,
                channels_last=self.channels_last,
                fused=self.fuse,
                backend=self.backend,
                repetitions=self.repetitions,
            )
            for model, device, dtype, (height, width), batch_size, scope, threads in grid
        ]

    def _demand_sense(self) -> None:
        for name in ("models", "devices", "dtypes", "shapes", "batch_sizes", "scopes", "threads"):
            if not getattr(self, name):
                raise UsageError(f"{name} is empty; give at least one")
        numbers = [*self.batch_sizes, *(count for count in self.threads if count is not None)]
        if min(numbers) < 1 or (self.repetitions is not None and self.repetitions < 2):
            raise UsageError(f"batch sizes and threads are at least 1, repetitions at least 2, not {self}")
        if "protocol" in self.scopes and self.batch_sizes != (1,):
            raise UsageError("scope protocol is measured one picture at a time; leave out the batch sizes")
        if self.backend != "torch" and (self.compile or self.channels_last or "protocol" in self.scopes):
            raise UsageError("backend onnxruntime runs the network alone, without compile and channels_last")


def read_suite(path: Path) -> list[Cell]:
    """The cells of a suite file: a YAML list of blocks, see `Block`.

    Raises:
        UsageError: missing, no YAML, or with words that a block does not have.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the suite {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        blocks = msgspec.convert(raw, list[Block])
    except msgspec.ValidationError as error:
        raise UsageError(f"{path} is no suite: {error}; it is a list of blocks such as `- models: [nat-*]`") from error
    return unique(cell for block in blocks for cell in block.cells())


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """The cells without repeats, in their order."""
    return list({cell.key: cell for cell in cells}.values())


def _sides(shape: str | int) -> tuple[int, int]:
    sides = str(shape).lower().split("x")
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UsageError(f"impossible shape {shape!r}: give height x width in pixels, such as 512x2048")
    return int(sides[0]), int(sides[1])
