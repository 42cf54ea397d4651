import subprocess
import sys
import zlib

import numpy as np
import pytest

from segzoo.data.scenes import CLASSES, PALETTE, ScenesDataset, draw_scene
from segzoo.data.scenes_classes import CAR, GRASS, SKY
from segzoo.data.scenes_paint import Camera, Canvas, Light, band, frontal, lateral, polygon, rectangle

# What the first machine drew. Another machine, numpy or Python must draw the same.
PINNED = {
    (0, "val", (192, 256)): (597779420, 2446645531),
    (1, "val", (192, 256)): (2430166732, 116942738),
    (42, "val", (192, 256)): (3072350672, 2543732024),
    (99, "val", (192, 256)): (1479644816, 4171783727),
    (0, "train", (192, 256)): (4120570395, 3183773196),
    (19999, "train", (128, 128)): (1401507162, 3505945142),
    (7, "val", (100, 60)): (4144828316, 616898981),
}


def checksums(index, split, size):
    image, label = draw_scene(index, split, size)
    return zlib.crc32(image.tobytes()), zlib.crc32(label.tobytes())


@pytest.mark.parametrize(("index", "split", "size"), list(PINNED))
def test_pixels_are_those_of_every_other_machine(index, split, size):
    assert checksums(index, split, size) == PINNED[index, split, size]


def test_another_process_draws_the_same_picture():
    code = "import zlib; from segzoo.data.scenes import draw_scene as d; print(zlib.crc32(d(5, 'val')[0].tobytes()))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == zlib.crc32(draw_scene(5, "val")[0].tobytes())


def test_order_of_drawing_does_not_matter():
    forward = [checksums(index, "val", (48, 64)) for index in range(4)]
    backward = [checksums(index, "val", (48, 64)) for index in reversed(range(4))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 4


def test_splits_are_different_scenes():
    assert not np.array_equal(draw_scene(0, "train", (48, 64))[1], draw_scene(0, "val", (48, 64))[1])


def test_validation_split_shows_every_class_and_ignored_pixels_in_sane_amounts():
    counts, pictures = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for index in range(100):
        of_picture = np.bincount(draw_scene(index, "val", (96, 128))[1].ravel(), minlength=256)
        counts += of_picture
        pictures += of_picture > 0
    assert counts[len(CLASSES) : 255].sum() == 0
    assert (pictures[: len(CLASSES)] >= 25).all(), dict(zip(CLASSES, pictures, strict=False))
    shares = counts / counts.sum()
    assert shares[: len(CLASSES)].min() > 0.004
    assert shares[: len(CLASSES)].max() < 0.35
    assert 0.003 < shares[255] < 0.05


def test_colour_alone_does_not_tell_the_class():
    """The best class for each colour (a histogram fitted on the very pictures it is asked about) is often wrong."""
    colours, labels = [], []
    for index in range(30):
        image, label = draw_scene(index, "val", (96, 128))
        valid = label != 255
        colours.append((image[valid] >> 4).astype(np.int64) @ np.array([256, 16, 1]))
        labels.append(label[valid].astype(np.int64))
    table = np.zeros((4096, len(CLASSES)), np.int64)
    np.add.at(table, (np.concatenate(colours), np.concatenate(labels)), 1)
    assert 0.3 < table.max(axis=1).sum() / table.sum() < 0.8


def test_another_size_shows_the_same_scene():
    large, small = draw_scene(3, "val", (192, 256))[1], draw_scene(3, "val", (96, 128))[1]
    assert (large[1::2, 1::2] == small).mean() > 0.85


@pytest.mark.parametrize("size", [(16, 16), (33, 97), (97, 33)])
def test_unusual_sizes_are_drawn(size):
    for index in range(8):
        image, label = draw_scene(index, "train", size)
        assert image.shape == (*size, 3)
        assert image.dtype == label.dtype == np.uint8
        assert label.shape == size


def test_too_small_a_size_is_refused():
    with pytest.raises(ValueError, match="15x64"):
        draw_scene(0, "val", (15, 64))


def test_palette_has_one_colour_a_class():
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) >= 12


def test_dataset_gives_pictures_labels_and_names():
    dataset = ScenesDataset("val")
    assert (len(dataset), dataset.num_classes, dataset.name) == (100, len(CLASSES), "scenes")
    assert dataset.image_name(12) == "scenes/val/00012"
    image, label = draw_scene(7, "val")
    assert np.array_equal(dataset.image(7), image)
    assert np.array_equal(dataset.label(7), label)
    assert image.shape == (192, 256, 3)
    with pytest.raises(IndexError, match="100"):
        dataset.image(100)
    with pytest.raises(ValueError, match="test"):
        ScenesDataset("test")


def test_fingerprint_tells_splits_counts_and_sizes_apart():
    variants = [ScenesDataset("val"), ScenesDataset("train"), ScenesDataset("val", count=9)]
    variants.append(ScenesDataset("val", size=(96, 128)))
    prints = [dataset.fingerprint() for dataset in variants]
    assert len(set(prints)) == 4
    assert prints[0] == ScenesDataset("val").fingerprint()


def small_canvas():
    camera = Camera(height=40, width=60, focal=40.0, horizon=20.0, centre=30.0, eye=1.0)
    light = Light(front=1, left=1, right=1, haze=(0, 0, 0), visibility=1e9, shadow=1, sun_side=1, night=False)
    return Canvas(camera, light)


def test_a_rectangle_covers_the_pixels_that_geometry_says():
    """At 10 m, 4 pixels a metre: X -1..2 is columns 26..38, heights 0..1 are rows 20..24."""
    canvas = small_canvas()
    patch = frontal(canvas.camera, 10.0, -1.0, 2.0, 0.0, 1.0)
    canvas.paint(patch, rectangle(patch, -1.0, 2.0, 0.0, 1.0), (9, 9, 9), CAR)
    expected = np.zeros((40, 60), bool)
    expected[20:24, 26:38] = True
    assert np.array_equal(canvas.label == CAR, expected)


def test_a_wall_along_the_road_shrinks_with_distance():
    """X = 1 m from 2 to 4 m of depth: columns 40..50; its foot is at row 20 + 40 / Z."""
    canvas = small_canvas()
    patch = lateral(canvas.camera, 1.0, 2.0, 4.0, 0.0, 1.0)
    canvas.paint(patch, rectangle(patch, 2.0, 4.0, 0.0, 1.0), (9, 9, 9), CAR)
    columns = np.flatnonzero((canvas.label == CAR).any(axis=0))
    assert columns.tolist() == list(range(40, 50))
    heights = (canvas.label == CAR).sum(axis=0)[40:50]
    assert np.allclose(heights, np.arange(40, 50) + 0.5 - 30, atol=0.51)


def test_what_is_nearer_hides_what_is_farther_whatever_is_painted_first():
    canvas = small_canvas()
    for depth, label in ((5.0, CAR), (10.0, GRASS)):
        patch = frontal(canvas.camera, depth, -0.5, 0.5, 0.0, 1.0)
        canvas.paint(patch, rectangle(patch, -0.5, 0.5, 0.0, 1.0), (50, 50, 50), label)
    assert (canvas.label == CAR).sum() == 64
    assert (canvas.label == GRASS).sum() == 0
    assert (canvas.label == SKY).sum() == 40 * 60 - 64


def test_partial_coverage_is_the_share_of_the_pixel():
    position = np.array([0.5, 1.5, 2.5, 3.5])
    assert band(position, 0.75, 2.5, 1.0).tolist() == [0.25, 1.0, 0.5, 0.0]


def test_a_polygon_is_the_same_in_both_turning_senses():
    canvas = small_canvas()
    patch = frontal(canvas.camera, 5.0, -1.0, 1.0, 0.0, 2.0)
    corners = [(-1.0, 0.0), (1.0, 0.0), (0.0, 2.0)]
    forward, backward = polygon(patch, corners), polygon(patch, corners[::-1])
    assert np.array_equal(forward, backward)
    # Base 16 pixels, height 16 pixels: half of 256.
    assert abs(float(forward.sum()) - 128) < 4
