"""A label map over its image, with a legend of the classes that occur in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_SHORTEST_SIDE = 480
_PAPER = (255, 255, 255)
_INK = (32, 33, 36)
_PALE_INK = (112, 116, 122)
_MOST_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class Share:
    """A class that occurs in a label map, its colour and the part of the pixels it has (0 to 1)."""

    index: int
    name: str
    colour: tuple[int, int, int]
    share: float


def class_shares(labels: NDArray[Any], classes: list[str], colours: NDArray[np.uint8]) -> list[Share]:
    """The classes that occur in `labels` [H, W], the largest first; a class without a name is "class 17"."""
    counts = np.bincount(labels.ravel())
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda index: (-counts[index], index))
    return [
        Share(
            index=index,
            name=classes[index] if index < len(classes) else f"class {index}",
            colour=(int(colours[index][0]), int(colours[index][1]), int(colours[index][2])),
            share=float(counts[index] / labels.size),
        )
        for index in present
    ]


def draw_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[Any],
    shares: list[Share],
    colours: NDArray[np.uint8],
    *,
    opacity: float,
    title: str,
) -> Image.Image:
    """The picture that `segzoo predict` writes: blended colours, outlines, and the legend beside it.

    A small image is enlarged by a whole number, so that the legend's letters fit; the legend stands at
    the right, or below a picture that is much wider than high.

    Args:
        image: uint8 RGB [H, W, 3].
        labels: class indices [H, W].
        shares: rows of the legend.
        colours: uint8 RGB [classes, 3].
        opacity: of the class colours, 0 (the image alone) to 1 (colours alone).
        title: first line of the legend.
    """
    factor = max(1, math.ceil(_SHORTEST_SIDE / max(image.shape[:2])))
    if factor > 1:
        size = image.shape[1] * factor, image.shape[0] * factor
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        labels = np.kron(labels, np.ones((factor, factor), labels.dtype))
    return _beside(Image.fromarray(blend(image, labels, colours, opacity)), shares, title)


def blend(
    image: NDArray[np.uint8], labels: NDArray[Any], colours: NDArray[np.uint8], opacity: float
) -> NDArray[np.uint8]:
    """The image [H, W, 3] under the colours of its labels, which darken at the borders between classes."""
    painted = colours[labels].astype(np.float32)
    mixed = image * np.float32(1 - opacity) + painted * np.float32(opacity)
    border = _borders(labels, thickness=max(1, round(max(labels.shape) / 700)))
    if opacity > 0:
        mixed[border] = 0.25 * mixed[border] + 0.5 * painted[border]
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def _borders(labels: NDArray[Any], *, thickness: int) -> NDArray[np.bool_]:
    """Pixels whose neighbour to the right or below, up to `thickness` away, is of another class."""
    border = np.zeros(labels.shape, bool)
    for step in range(1, thickness + 1):
        border[:, :-step] |= labels[:, :-step] != labels[:, step:]
        border[:-step] |= labels[:-step] != labels[step:]
    return border


def _beside(picture: Image.Image, shares: list[Share], title: str) -> Image.Image:
    letters = min(max(round(min(picture.size) / 34), 13), 40)
    below = picture.width > 2.2 * picture.height
    legend = _Legend(shares, title, letters)
    if below:
        panel = legend.draw(rows=legend.rows_for_width(picture.width))
        size = max(picture.width, panel.width), picture.height + panel.height
    else:
        panel = legend.draw(rows=legend.rows_for_height(picture.height))
        size = picture.width + panel.width, max(picture.height, panel.height)
    page = Image.new("RGB", size, _PAPER)
    page.paste(picture, (0, 0))
    page.paste(panel, (0, picture.height) if below else (picture.width, 0))
    return page


class _Legend:
    """Rows of colour, name and share in columns; lengths follow from the size of the letters in pixels."""

    def __init__(self, shares: list[Share], title: str, letters: int) -> None:
        self._letters, self._font = letters, ImageFont.load_default(letters)
        self._title_font = ImageFont.load_default(round(1.2 * letters))
        self._title = title
        self._line, self._margin, self._swatch = round(1.65 * letters), round(1.2 * letters), round(1.05 * letters)
        shown = shares[:_MOST_ROWS]
        self._rows: list[tuple[tuple[int, int, int] | None, str, str]] = [
            (item.colour, item.name, _percent(item.share)) for item in shown
        ]
        if rest := shares[_MOST_ROWS:]:
            self._rows.append((None, f"{len(rest)} more", _percent(sum(item.share for item in rest))))
        self._name_width = max(math.ceil(self._font.getlength(name)) for _, name, _ in self._rows)
        self._share_width = max(math.ceil(self._font.getlength(share)) for _, _, share in self._rows)
        self._column = self._swatch + round(0.6 * letters) + self._name_width + letters + self._share_width
        self._top = self._margin + round(2.1 * letters)

    def rows_for_height(self, height: int) -> int:
        """Rows of a column beside a picture; at least ten, even where that is higher than the picture."""
        return max((height - self._top - self._margin) // self._line, 10)

    def rows_for_width(self, width: int) -> int:
        """Rows that are needed below a picture."""
        columns = max((width - self._margin) // (self._column + 2 * self._margin), 1)
        return math.ceil(len(self._rows) / columns)

    def draw(self, *, rows: int) -> Image.Image:
        """The panel with at most `rows` rows a column."""
        columns = math.ceil(len(self._rows) / rows)
        rows = math.ceil(len(self._rows) / columns)
        width = columns * self._column + (columns - 1) * 2 * self._margin + 2 * self._margin
        width = max(width, math.ceil(self._title_font.getlength(self._title)) + 2 * self._margin)
        panel = Image.new("RGB", (width, self._top + rows * self._line + self._margin), _PAPER)
        pen = ImageDraw.Draw(panel)
        pen.text((self._margin, self._margin), self._title, fill=_INK, font=self._title_font, anchor="lt")
        for number, row in enumerate(self._rows):
            left = self._margin + (number // rows) * (self._column + 2 * self._margin)
            self._draw_row(pen, row, left, self._top + (number % rows) * self._line)
        return panel

    def _draw_row(
        self, pen: ImageDraw.ImageDraw, row: tuple[tuple[int, int, int] | None, str, str], left: int, top: int
    ) -> None:
        colour, name, share = row
        middle = top + self._line // 2
        if colour is not None:
            box = (left, middle - self._swatch // 2, left + self._swatch, middle - self._swatch // 2 + self._swatch)
            pen.rounded_rectangle(box, radius=self._swatch // 4, fill=colour, outline=_darker(colour))
        text_left = left + self._column - self._share_width - self._name_width - self._letters
        pen.text((text_left, middle), name, fill=_INK if colour else _PALE_INK, font=self._font, anchor="lm")
        pen.text((left + self._column, middle), share, fill=_PALE_INK, font=self._font, anchor="rm")


def _darker(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    return int(0.75 * colour[0]), int(0.75 * colour[1]), int(0.75 * colour[2])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"
