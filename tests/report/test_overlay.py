"""Colours of classes, and the picture with its legend."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segzoo.report.overlay import blend, class_shares, draw_overlay
from segzoo.report.palette import class_colours, distinct_colours, oklab

COLOURS = np.array([[255, 0, 0], [0, 0, 255], [0, 255, 0]], np.uint8)


def test_a_palette_is_kept_and_continued():
    colours = class_colours(4, [(1, 2, 3), (4, 5, 6)])
    assert colours[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert colours.dtype == np.uint8 and len(colours) == 4
    assert class_colours(1, [(1, 2, 3), (4, 5, 6)]).tolist() == [[1, 2, 3]]


def test_made_colours_are_apart_and_always_the_same():
    places = oklab(distinct_colours(150).astype(float))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 10 * np.eye(150)
    assert distances.min() > 0.05
    # The first ones are far apart, and more classes do not change them.
    np.testing.assert_array_equal(distinct_colours(20), distinct_colours(150)[:20])
    assert distances[:10, :10].min() > 0.2


def test_more_classes_than_colours_still_get_one_each():
    assert distinct_colours(5000).shape == (5000, 3)


def test_oklab_of_white_grey_and_red():
    # Values of Ottosson's page: white is (1, 0, 0), red (0.628, 0.225, 0.126).
    found = oklab(np.array([[255.0, 255, 255], [0, 0, 0], [255, 0, 0]]))
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0, 0], [0.628, 0.225, 0.126]], atol=1e-3)


def test_shares_are_counted_and_the_largest_comes_first():
    labels = np.array([[2, 2, 2, 0], [2, 2, 0, 5]], np.uint8)
    shares = class_shares(labels, ["sky", "road", "tree"], class_colours(6))
    assert [(item.index, item.name, item.share) for item in shares] == [
        (2, "tree", 5 / 8),
        (0, "sky", 2 / 8),
        (5, "class 5", 1 / 8),
    ]


def test_blending_by_hand():
    image = np.full((5, 5, 3), 100, np.uint8)
    labels = np.zeros((5, 5), np.uint8)
    # Half of 100 and half of red.
    assert blend(image, labels, COLOURS, 0.5)[2, 2].tolist() == [178, 50, 50]
    np.testing.assert_array_equal(blend(image, labels, COLOURS, 1.0)[2, 2], COLOURS[0])
    np.testing.assert_array_equal(blend(image, labels, COLOURS, 0.0), image)


def test_borders_between_classes_are_darker():
    image, labels = np.full((4, 6, 3), 100, np.uint8), np.zeros((4, 6), np.uint8)
    labels[:, 3:] = 1
    mixed = blend(image, labels, COLOURS, 0.5)
    # Column 2 has the other class at its right: a quarter of the mixture and half of red.
    assert mixed[1, 2].tolist() == [172, 12, 12]
    assert mixed[1, 1].tolist() == [178, 50, 50] and mixed[1, 3].tolist() == [50, 50, 178]


@pytest.mark.parametrize("size", [(1, 1), (30, 50), (500, 700), (60, 900), (900, 60)])
@pytest.mark.parametrize("classes", [1, 12, 120])
def test_every_picture_gets_a_legend_that_fits(size, classes):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, size, dtype=np.uint8)
    colours = class_colours(classes)
    shares = class_shares(labels, [f"a class of many words {index}" for index in range(classes)], colours)
    page = draw_overlay(image, labels, shares, colours, opacity=0.5, title="a model with a long name")
    factor = max(1, -(-480 // max(size)))
    height, width = size[0] * factor, size[1] * factor
    assert page.width >= width and page.height >= height and (page.width > width or page.height > height)
    paper = np.asarray(page)
    # Nothing is cut off: the page ends in white below and to the right of the legend.
    legend = paper[height:] if width > 2.2 * height else paper[:, width:]
    assert (legend[-5:] == 255).all() and (legend[:, -5:] == 255).all()
    assert (legend < 128).any(), "letters"


def test_the_legend_shows_the_colours_that_occur_and_no_others():
    image = np.zeros((400, 400, 3), np.uint8)
    labels = np.zeros((400, 400), np.uint8)
    labels[:100] = 2
    page = draw_overlay(
        image, labels, class_shares(labels, ["a", "b", "c"], COLOURS), COLOURS, opacity=0.5, title="model"
    )
    legend = {tuple(colour) for _, colour in page.crop((400, 0, page.width, page.height)).getcolors(100_000)}
    assert {(255, 0, 0), (0, 255, 0)} <= legend and (0, 0, 255) not in legend
    assert isinstance(page, Image.Image)
