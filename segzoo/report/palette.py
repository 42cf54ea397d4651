"""One colour a class: the data set's own, or colours that are as far apart as they can be."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_LEVELS = np.linspace(24, 255, 12)
# Björn Ottosson, "A perceptual color space for image processing" (Oklab), 2020.
_LINEAR_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_LIGHTNESS = (0.35, 0.92)


def class_colours(classes: int, palette: list[tuple[int, int, int]] | None = None) -> NDArray[np.uint8]:
    """uint8 RGB [classes, 3]: `palette`, continued with distinct colours where it is too short."""
    own = np.array(palette or [], np.uint8).reshape(-1, 3)[:classes]
    return np.concatenate([own, distinct_colours(classes - len(own))]) if len(own) < classes else own


@functools.lru_cache(maxsize=8)
def distinct_colours(count: int) -> NDArray[np.uint8]:
    """`count` colours of which each is the farthest from all before it in Oklab; always the same.

    Very dark and very light ones are left out, since they vanish in photographs. Beyond the colours that
    there are (about 1500) they repeat.
    """
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    places = oklab(grid)
    usable = (places[:, 0] > _LIGHTNESS[0]) & (places[:, 0] < _LIGHTNESS[1])
    grid, places = grid[usable], places[usable]
    # Begins with the most saturated colour.
    chosen = [int(np.hypot(places[:, 1], places[:, 2]).argmax())]
    nearest = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        nearest = np.minimum(nearest, np.linalg.norm(places - places[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return grid[np.resize(chosen, count)].round().astype(np.uint8)


def oklab(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lightness, green-red and blue-yellow [N, 3] of sRGB colours 0..255 [N, 3]."""
    srgb = colours / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _LINEAR_TO_CONES.T) @ _CONES_TO_OKLAB.T
