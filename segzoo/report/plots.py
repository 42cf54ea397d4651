"""PNG pictures of score against cost, for papers and slides; needs the extra `plots` (matplotlib)."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

from segzoo.errors import UnavailableError
from segzoo.report.entries import Entry
from segzoo.report.pareto import Picture, pictures
from segzoo.report.scatter import mark_of

_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle": "^", "cross": "X"}
_LABEL_ROOM = 0.03
"""Share of the front's height that a name takes."""


def require_matplotlib() -> None:
    """Says what to install where matplotlib is missing.

    Raises:
        UnavailableError: no matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("plots need matplotlib, which is not installed: pip install 'segzoo[plots]'")


def write_plots(rows: list[Entry], output: Path) -> list[Path]:
    """Writes one PNG for each picture, named after `output`: report.html -> report-params-1.png, ...

    Raises:
        UnavailableError: no matplotlib.
    """
    require_matplotlib()
    shown = pictures(rows)
    families = sorted({point.family for picture in shown for point in picture.points})
    written: list[Path] = []
    for picture in shown:
        number = 1 + sum(path.stem.startswith(f"{output.stem}-{picture.cost.key}-") for path in written)
        path = output.with_name(f"{output.stem}-{picture.cost.key}-{number}.png")
        _draw(picture, families, path)
        written.append(path)
    return written


def _draw(picture: Picture, families: list[str], path: Path) -> None:
    # Figure itself, not pyplot: no window system is looked for and no global state is left behind.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, ScalarFormatter

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot(xscale="log")
    for name in sorted({point.family for point in picture.points}):
        colour, shape = mark_of(families.index(name))
        points = [point for point in picture.points if point.family == name]
        axes.scatter(
            [point.cost for point in points],
            [point.score for point in points],
            marker=_MARKERS[shape],
            # Hollow where the authors' figure stands in for a measurement.
            facecolors=["none" if point.published else colour for point in points],
            edgecolors=colour,
            label=name,
        )
    best = [point for point in picture.points if point.model in picture.front]
    axes.step([p.cost for p in best], [p.score for p in best], where="post", color="0.5", linewidth=1, zorder=0)
    labelled = -math.inf
    for point in best:
        # Names that would lie on one another are left out; the front rises, so that the last name is the nearest.
        if point.score - labelled > _LABEL_ROOM * (best[-1].score - best[0].score):
            axes.annotate(
                point.model,
                (point.cost, point.score),
                xytext=(-5, 5),
                textcoords="offset points",
                fontsize=7,
                ha="right",
            )
            labelled = point.score
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter("")
    axes.set(xlabel=picture.cost.title, ylabel=f"mIoU on {picture.dataset}, %", title=picture.setting)
    axes.title.set_fontsize(8)
    axes.grid(alpha=0.3)
    axes.margins(0.08)
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=150)
