"""A confusion matrix as a picture: rows are labels, each as shares of its label's pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segzoo.report.sections import heat_colour

_PAPER, _INK, _PALE_INK, _LINE, _EMPTY = (
    (255, 255, 255),
    (32, 33, 36),
    (112, 116, 122),
    (226, 228, 231),
    (240, 241, 243),
)
_FEW_CLASSES = 40
"""Up to so many classes the cells are large enough for numbers."""
_TICKS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
_TEN_CLASSES = 10


def confusion_picture(counts: NDArray[np.int64], classes: list[str], *, title: str) -> Image.Image:
    """The picture, as large as its names need: about 2200 pixels a side for 150 classes.

    Colours follow the square root of the share, so that a class that takes 1 % of another one's pixels is
    still seen. A row without pixels is grey.

    Args:
        counts: pixels by label (rows) and prediction (columns), [K, K].
        classes: K names.
        title: first line.
    """
    return _Chart(counts, classes, title).draw()


class _Chart:
    """Lengths in pixels follow from the number of classes and the names."""

    def __init__(self, counts: NDArray[np.int64], classes: list[str], title: str) -> None:
        self.classes, self.title = classes, title
        totals = counts.sum(axis=1)
        with np.errstate(invalid="ignore"):
            self.shares = counts / totals[:, None]
        few = len(classes) <= _FEW_CLASSES
        self.cell = 34 if few else 13
        letters = 15 if few else 11
        self.font = ImageFont.load_default(letters)
        self.small = ImageFont.load_default(12)
        self.heading = ImageFont.load_default(letters + 7)
        self.line = letters + 9
        names = [self.font.getlength(name) for name in classes]
        self.left = math.ceil(max(names)) + 3 * self.line
        self.top = math.ceil(max(names)) + 4 * self.line
        self.side = self.cell * len(classes)
        self.numbers = few

    def draw(self) -> Image.Image:
        """The picture."""
        width = max(self.left + self.side + 4 * self.line, self.left + 460)
        self.page = Image.new("RGB", (width, self.top + self.side + 5 * self.line), _PAPER)
        self.pen = ImageDraw.Draw(self.page)
        self.pen.text((self.line, self.line), self.title, fill=_INK, font=self.heading, anchor="lt")
        for row in range(len(self.classes)):
            for column in range(len(self.classes)):
                self._draw_cell(row, column)
        self._draw_lines()
        self._draw_names()
        self._draw_scale()
        return self.page

    def _draw_cell(self, row: int, column: int) -> None:
        share = float(self.shares[row, column])
        left, top = self.left + column * self.cell, self.top + row * self.cell
        box = left, top, left + self.cell - 1, top + self.cell - 1
        if math.isnan(share):
            self.pen.rectangle(box, fill=_EMPTY)
            return
        self.pen.rectangle(box, fill=heat_colour(math.sqrt(share)))
        if self.numbers and share >= 0.005:
            ink = _PAPER if math.sqrt(share) < 0.55 else _INK
            place = left + self.cell // 2, top + self.cell // 2
            self.pen.text(place, f"{100 * share:.0f}", fill=ink, font=self.small, anchor="mm")

    def _draw_lines(self) -> None:
        """A line every ten classes, to follow a row or column by, where there are many."""
        if self.numbers:
            return
        for index in range(_TEN_CLASSES, len(self.classes), _TEN_CLASSES):
            along = index * self.cell - 1
            self.pen.line((self.left, self.top + along, self.left + self.side, self.top + along), fill=_LINE)
            self.pen.line((self.left + along, self.top, self.left + along, self.top + self.side), fill=_LINE)

    def _draw_names(self) -> None:
        # Upright names are written on a strip that is turned.
        strip = Image.new("RGB", (self.top - 3 * self.line, self.side), _PAPER)
        pen = ImageDraw.Draw(strip)
        for index, name in enumerate(self.classes):
            middle = index * self.cell + self.cell // 2
            self.pen.text((self.left - 5, self.top + middle), name, fill=_INK, font=self.font, anchor="rm")
            pen.text((5, middle), name, fill=_INK, font=self.font, anchor="lm")
        turned = strip.transpose(Image.Transpose.ROTATE_90)
        self.page.paste(turned, (self.left, self.top - turned.height))
        self.pen.text((self.left, self.top + self.side + 8), "predicted (columns), label (rows), share of the label",
                      fill=_PALE_INK, font=self.font, anchor="lt")  # fmt: skip

    def _draw_scale(self) -> None:
        """The colours and the shares they stand for."""
        top, width = self.top + self.side + 2 * self.line, 400
        for step in range(width):
            self.pen.line(
                (self.left + step, top, self.left + step, top + self.line), fill=heat_colour(step / (width - 1))
            )
        for share in _TICKS:
            place = self.left + math.sqrt(share) * (width - 1), top + self.line + 6
            self.pen.text(place, f"{100 * share:g} %", fill=_PALE_INK, font=self.small, anchor="mt")
