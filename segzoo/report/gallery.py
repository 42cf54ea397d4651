"""A page of images with their labels, predictions and mistakes side by side; one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LONGEST_SIDE = 420
_MISTAKE, _RIGHT, _IGNORED = (213, 94, 0), (226, 228, 231), (255, 255, 255)
_MOST_NAMES = 6
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1780px;padding:0 1.5rem;color:#202124}
h1{font-size:1.5rem}h2{font-size:1.05rem;margin:2.2rem 0 .3rem}p{margin:.2rem 0;color:#5f6368}
.row{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin-top:.6rem}figure{margin:0}
img{width:100%;image-rendering:auto;border:1px solid #e2e4e7}figcaption{font-size:.8rem;color:#5f6368}
.swatch{display:inline-block;width:.8em;height:.8em;border:1px solid #0003;margin:0 .25em 0 .8em;vertical-align:-.05em}
"""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image of the gallery.

    Attributes:
        name: of the image.
        caption: its figures.
        image: uint8 RGB [H, W, 3].
        label: class indices or the ignored value [H, W].
        prediction: class indices [H, W].
    """

    name: str
    caption: str
    image: NDArray[np.uint8]
    label: NDArray[Any]
    prediction: NDArray[Any]


def gallery(
    items: Iterable[Shown], *, title: str, words: str, classes: list[str], colours: NDArray[np.uint8], ignore: int
) -> str:
    """The page's text; pictures are made smaller to 420 pixels and are part of it.

    Args:
        items: in the order of the page; taken one at a time.
        title: heading.
        words: a line below it.
        classes: names of the K classes.
        colours: uint8 RGB [K, 3].
        ignore: the ignored value of labels.
    """
    sections = "".join(_section(item, classes, colours, ignore) for item in items)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><p>{escape(words)}</p>{sections}</body></html>\n"
    )


def _section(item: Shown, classes: list[str], colours: NDArray[np.uint8], ignore: int) -> str:
    ignored = item.label == ignore
    wrong = ~ignored & (item.prediction != item.label)
    mistakes = np.full((*item.label.shape, 3), _RIGHT, np.uint8)
    mistakes[wrong], mistakes[ignored] = _MISTAKE, _IGNORED
    painted_label = np.full((*item.label.shape, 3), _IGNORED, np.uint8)
    painted_label[~ignored] = colours[item.label[~ignored]]
    pictures = (
        ("image", _embedded(item.image, photograph=True)),
        ("label (white: ignored)", _embedded(painted_label)),
        ("prediction", _embedded(colours[item.prediction])),
        ("mistakes", _embedded(mistakes)),
    )
    figures = "".join(f'<figure><img alt="{name}" src="{data}"><figcaption>{name}</figcaption></figure>'
                      for name, data in pictures)  # fmt: skip
    return (
        f"<h2>{escape(item.name)}</h2><p>{escape(item.caption)}</p><p>label:{_names(item.label, classes, colours)}</p>"
        f"<p>prediction:{_names(item.prediction, classes, colours)}</p><div class='row'>{figures}</div>"
    )


def _names(indices: NDArray[Any], classes: list[str], colours: NDArray[np.uint8]) -> str:
    """The largest classes of a map with their colours and shares."""
    counts = np.bincount(indices.ravel(), minlength=len(classes))[: len(classes)]
    order = [index for index in np.argsort(-counts, kind="stable")[:_MOST_NAMES].tolist() if counts[index]]
    return "".join(
        f'<span class="swatch" style="background:rgb({",".join(map(str, colours[index].tolist()))})"></span>'
        f"{escape(classes[index])} {100 * counts[index] / indices.size:.0f} %"
        for index in order
    )


def _embedded(pixels: NDArray[np.uint8], *, photograph: bool = False) -> str:
    """A picture as a data URL: JPEG for photographs, PNG for maps, whose colours must not run."""
    picture = Image.fromarray(pixels)
    factor = min(1.0, _LONGEST_SIDE / max(picture.size))
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    smooth = Image.Resampling.LANCZOS if photograph else Image.Resampling.NEAREST
    file = io.BytesIO()
    picture.resize(size, smooth).save(file, **({"format": "JPEG", "quality": 85} if photograph else {"format": "PNG"}))
    kind = "jpeg" if photograph else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
