"""A picture of score against cost as inline SVG: logarithmic cost, families by colour and shape, the front labelled."""

from __future__ import annotations

import math
from html import escape

from segzoo.report.pareto import Picture, Point

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 16, 46

# Masataka Okabe and Kei Ito's colours, told apart with any kind of colour vision; yellow is too pale for a thin mark.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
SHAPES = ("circle", "square", "diamond", "triangle", "cross")

_LETTER = 6.4
_LINE = 14.0
_Box = tuple[float, float, float, float]


def mark_of(index: int) -> tuple[str, str]:
    """Colour and shape of a family by its number; no pair repeats before 35."""
    return COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]


def scatter(picture: Picture, families: list[str]) -> str:
    """The picture as an <svg> element; `families` gives each its mark in every picture of a page."""
    costs = [math.log10(point.cost) for point in picture.points]
    scores = [point.score for point in picture.points]
    column = _Axis(min(costs), max(costs), LEFT, WIDTH - RIGHT)
    row = _Axis(min(scores), max(scores), HEIGHT - BOTTOM, TOP)
    title = f"mIoU on {picture.dataset} against {picture.cost.title}"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(picture, column, row),
        _front_line(picture, column, row),
        *(_mark(point, column, row, families) for point in picture.points),
        *_labels(picture, column, row),
        "</svg>",
    ]
    return "\n".join(parts)


class _Axis:
    """Maps a range of values, with some air around it, to pixels."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        air = 0.07 * (high - low) or 0.5
        self.low, self.high, self.begin, self.end = low - air, high + air, begin, end

    def at(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def _grid(picture: Picture, column: _Axis, row: _Axis) -> list[str]:
    parts = []
    for value in round_steps(row.low, row.high):
        pixel = row.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{pixel:.1f}" y2="{pixel:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{pixel + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in log_steps(10**column.low, 10**column.high):
        pixel = column.at(math.log10(value))
        parts.append(f'<line class="grid" x1="{pixel:.1f}" x2="{pixel:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="tick" x="{pixel:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(picture.cost.title)}</text>'
    )
    upright = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" transform="translate(13 {upright}) rotate(-90)" text-anchor="middle">mIoU, %</text>'
    )
    return parts


def round_steps(low: float, high: float, most: int = 7) -> list[float]:
    """Round values between two bounds, in steps of 1, 2 or 5 times a power of ten, at most `most`."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        values = [
            round(index * factor * step, 10)
            for index in range(math.ceil(low / (factor * step)), math.floor(high / (factor * step)) + 1)
        ]
        if len(values) <= most:
            return values
    return values


def log_steps(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, powers alone where there would be too many.

    A range of less than a power of two has none of these to spare and gets evenly spaced round values.
    """
    if high / low < 4:
        return round_steps(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(values) <= 10:
            break
    return values


def _front_line(picture: Picture, column: _Axis, row: _Axis) -> str:
    """A staircase: up to a cost, the best score is that of the last model on the front."""
    path = ""
    for point in picture.points:
        if point.model not in picture.front:
            continue
        x, y = column.at(math.log10(point.cost)), row.at(point.score)
        path += f"M{x:.1f} {y:.1f}" if not path else f"H{x:.1f}V{y:.1f}"
    return f'<path class="front" d="{path}"/>'


def _mark(point: Point, column: _Axis, row: _Axis, families: list[str]) -> str:
    colour, shape = mark_of(families.index(point.family))
    x, y = column.at(math.log10(point.cost)), row.at(point.score)
    paint = f'fill="none" stroke="{colour}"' if point.published else f'fill="{colour}" stroke="{colour}"'
    origin = "published" if point.published else "measured"
    hint = f"{point.model}: {point.score:.2f} % at {point.cost:.4g} ({origin})"
    return f'<g class="mark" {paint}>{shape_at(shape, x, y)}<title>{escape(hint)}</title></g>'


def shape_at(shape: str, x: float, y: float, size: float = 5.0) -> str:
    """One mark as an SVG element centred on a place."""
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    if shape == "square":
        side = 0.9 * size
        return f'<rect x="{x - side:.1f}" y="{y - side:.1f}" width="{2 * side:.1f}" height="{2 * side:.1f}"/>'
    if shape == "diamond":
        return f'<path d="M{x:.1f} {y - 1.3 * size:.1f}l{1.3 * size} {1.3 * size}l{-1.3 * size} {1.3 * size}l{-1.3 * size} {-1.3 * size}z"/>'  # noqa: E501
    if shape == "triangle":
        return f'<path d="M{x:.1f} {y - 1.2 * size:.1f}l{1.2 * size} {2.1 * size}h{-2.4 * size}z"/>'
    return f'<path d="M{x - size:.1f} {y - size:.1f}l{2 * size} {2 * size}m0 {-2 * size}l{-2 * size} {2 * size}"/>'


def _labels(picture: Picture, column: _Axis, row: _Axis) -> list[str]:
    """Names of the front's models, each at the first of four places that is free; none rather than one on another."""
    marks = [(column.at(math.log10(p.cost)), row.at(p.score)) for p in picture.points]
    taken: list[_Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    parts = []
    for point, (x, y) in zip(picture.points, marks, strict=True):
        if point.model not in picture.front:
            continue
        width = _LETTER * len(point.model)
        for left, base in ((x - 9 - width, y - 6), (x + 9, y + 15), (x - width / 2, y - 11), (x + 9, y - 6)):
            box = (left, base - 0.8 * _LINE, left + width, base + 0.2 * _LINE)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(f'<text class="label" x="{left:.1f}" y="{base:.1f}">{escape(point.model)}</text>')
                break
    return parts


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
