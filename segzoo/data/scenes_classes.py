"""The classes of the drawn data set `scenes` and a colour for each."""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "sky",
    "cloud",
    "mountain",
    "grass",
    "water",
    "road",
    "marking",
    "sidewalk",
    "building",
    "window",
    "fence",
    "tree",
    "car",
    "person",
    "pole",
    "sign",
)
PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 130, 180),
    (220, 232, 242),
    (143, 118, 96),
    (152, 216, 92),
    (28, 80, 200),
    (128, 64, 128),
    (255, 255, 120),
    (244, 35, 232),
    (110, 110, 110),
    (0, 190, 200),
    (190, 153, 153),
    (40, 110, 35),
    (0, 0, 142),
    (220, 20, 60),
    (250, 150, 20),
    (220, 220, 0),
)
SKY, CLOUD, MOUNTAIN, GRASS, WATER, ROAD, MARKING, SIDEWALK = range(8)
BUILDING, WINDOW, FENCE, TREE, CAR, PERSON, POLE, SIGN = range(8, 16)
