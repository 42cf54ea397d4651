"""A reliability diagram: accuracy by the probability the model gave, beside the diagonal that it should lie on."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _PALE_INK, _LINE = (255, 255, 255), (32, 33, 36), (112, 116, 122), (226, 228, 231)
_ACCURACY, _GAP, _SHARE = (0, 114, 178), (242, 190, 150), (170, 176, 184)
_SIDE, _LEFT, _TOP, _SHARES = 480, 84, 92, 120
_WIDTH, _HEIGHT = _LEFT + _SIDE + 36, _TOP + _SIDE + 40 + _SHARES + 64
_TICKS = (0, 20, 40, 60, 80, 100)


def reliability_picture(bins: list[dict[str, Any]], *, error_percent: float | None, title: str) -> Image.Image:
    """The diagram, with the share of the pixels in each bin below it.

    Args:
        bins: rows with "from_percent", "to_percent", "pixels", "confidence_percent", "accuracy_percent".
        error_percent: the expected calibration error, for the second line.
        title: first line.
    """
    page = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    pen = ImageDraw.Draw(page)
    small, large = ImageFont.load_default(14), ImageFont.load_default(20)
    pen.text((24, 24), title, fill=_INK, font=large, anchor="lt")
    error = "no pixels" if error_percent is None else f"expected calibration error {error_percent:.2f} %"
    pen.text((24, 54), f"{error}; blue: accuracy, orange: gap to the probability", fill=_PALE_INK, font=small)
    _draw_axes(pen, small)
    total = sum(row["pixels"] for row in bins) or 1
    for row in bins:
        if row["pixels"]:
            _draw_bin(pen, row, row["pixels"] / total)
    pen.line((_LEFT, _TOP + _SIDE, _LEFT + _SIDE, _TOP), fill=_INK, width=2)
    return page


def _across(value: float) -> float:
    return _LEFT + _SIDE * value / 100


def _up(value: float) -> float:
    return _TOP + _SIDE * (1 - value / 100)


def _draw_axes(pen: ImageDraw.ImageDraw, font: Any) -> None:
    foot = _TOP + _SIDE + 40 + _SHARES
    for tick in _TICKS:
        pen.line((_LEFT, _up(tick), _LEFT + _SIDE, _up(tick)), fill=_LINE)
        pen.text((_LEFT - 8, _up(tick)), f"{tick} %", fill=_PALE_INK, font=font, anchor="rm")
        pen.line((_across(tick), _TOP, _across(tick), _TOP + _SIDE), fill=_LINE)
        pen.text((_across(tick), foot + 8), f"{tick} %", fill=_PALE_INK, font=font, anchor="mt")
    pen.line((_LEFT, foot, _LEFT + _SIDE, foot), fill=_PALE_INK)
    pen.text((_LEFT - 8, foot - _SHARES // 2), "pixels", fill=_PALE_INK, font=font, anchor="rm")
    pen.text((_LEFT + _SIDE // 2, foot + 32), "probability of the predicted class", fill=_INK, font=font, anchor="mt")


def _draw_bin(pen: ImageDraw.ImageDraw, row: dict[str, Any], share: float) -> None:
    left, right = _across(row["from_percent"]) + 1, _across(row["to_percent"]) - 1
    accuracy, confidence = row["accuracy_percent"], row["confidence_percent"]
    pen.rectangle((left, _up(accuracy), right, _TOP + _SIDE), fill=_ACCURACY)
    low, high = sorted((accuracy, confidence))
    pen.rectangle((left, _up(high), right, _up(low)), fill=_GAP)
    pen.line((left, _up(accuracy), right, _up(accuracy)), fill=_ACCURACY, width=3)
    foot = _TOP + _SIDE + 40 + _SHARES
    pen.rectangle((left, foot - _SHARES * share, right, foot), fill=_SHARE)
