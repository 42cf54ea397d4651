"""Pictures of a training: a grid of image, label and prediction, and curves of the log."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segzoo.errors import SegzooError, UnavailableError
from segzoo.training.journal import column, read_log
from segzoo.training.validation import Shown

_WIDTH = 320
_GAP = 4
_IGNORED = (0, 0, 0)
_HEADINGS = ("image", "label", "prediction")
_HEADING_HEIGHT = 18
_AXES = {"lr": "learning rate", "miou_percent": "mIoU (%)", "top1_percent": "top-1 accuracy (%)"}


def write_grid(path: Path, shown: Sequence[Shown], palette: Sequence[tuple[int, int, int]]) -> None:
    """A PNG with a row for each picture: image, label, prediction; ignored pixels are black in both maps.

    Raises:
        SegzooError: it cannot be written.
    """
    rows = [_row(item, palette) for item in shown]
    width = max(row.width for row in rows)
    height = sum(row.height for row in rows) + _GAP * (len(rows) - 1) + _HEADING_HEIGHT
    grid = Image.new("RGB", (width, height), (255, 255, 255))
    pen = ImageDraw.Draw(grid)
    for place, heading in enumerate(_HEADINGS):
        pen.text((place * (_WIDTH + _GAP) + _GAP, _GAP), heading, fill=(0, 0, 0))
    top = _HEADING_HEIGHT
    for row in rows:
        grid.paste(row, (0, top))
        top += row.height + _GAP
    _write(path, lambda file: grid.save(file, format="PNG"))


def _row(item: Shown, palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    label = item.pair.label
    # Where the label says nothing, so does the score; showing the prediction there would mislead.
    prediction = np.where(label < len(palette), item.prediction, len(palette))
    parts = [item.pair.image, coloured(label, palette), coloured(prediction, palette)]
    height = max(1, round(label.shape[0] * _WIDTH / label.shape[1]))
    row = Image.new("RGB", (3 * _WIDTH + 2 * _GAP, height), (255, 255, 255))
    for place, part in enumerate(parts):
        way = Image.Resampling.BILINEAR if place == 0 else Image.Resampling.NEAREST
        row.paste(Image.fromarray(part).resize((_WIDTH, height), way), (place * (_WIDTH + _GAP), 0))
    return row


def coloured(indices: NDArray[Any], palette: Sequence[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Class indices [H, W] in colours [H, W, 3]; black for what is no class."""
    table = np.array([*palette, _IGNORED], np.uint8)
    return table[np.minimum(indices.astype(np.int64), len(palette))]


def palette_of(palette: Sequence[tuple[int, int, int]] | None, num_classes: int) -> list[tuple[int, int, int]]:
    """The data set's colours, or as many fixed ones that differ well."""
    if palette is not None:
        return list(palette)
    colours = np.random.default_rng(0).integers(32, 256, (num_classes, 3))
    return [(int(red), int(green), int(blue)) for red, green, blue in colours]


def write_curves(log: Path, path: Path, measures: Sequence[str]) -> None:
    """A PNG with the loss, the learning rate and each of `measures` over the iterations of a log.

    Raises:
        UnavailableError: matplotlib is not installed.
        SegzooError: it cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError("curves need matplotlib: pip install 'segzoo[plots]'") from error
    lines = read_log(log)
    figure = Figure(figsize=(8, 2.6 * (2 + len(measures))), layout="constrained")
    names = ["loss", "lr", *measures]
    for name, axes in zip(names, figure.subplots(len(names), 1, sharex=True), strict=True):
        iterations, values = column(lines, name)
        axes.plot(iterations, values, marker="." if len(values) < 30 else None)
        axes.set_ylabel(_AXES.get(name, name))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4))
        axes.grid(alpha=0.3)
    axes.set_xlabel("iteration")
    figure.align_ylabels()
    _write(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _write(path: Path, save: Callable[[Any], None]) -> None:
    """Calls `save` with a file that becomes `path` when it is whole."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            save(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            if temporary is not None:
                os.unlink(temporary)
        raise SegzooError(f"cannot write {path}: {error.strerror}") from error
