"""The augmentations against recorded draws and pixels of the published pipeline, and their statistics."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from oracle_files import oracle
from scripted_draws import ListedDraws, SeededDraws

from segzoo.data.read import read_image, read_label
from segzoo.data.transforms import Augmentation, augmented, draw_crop, draw_size
from segzoo.data.transforms_colour import draw_colours
from segzoo.errors import DatasetError
from segzoo.kernels.training_crop import ColourSteps, training_crop


def rule(**words) -> Augmentation:
    default = {
        "crop": (128, 128),
        "scale": (512, 128),
        "scale_range": (0.5, 2.0),
        "category_max_ratio": 0.75,
        "flip": 0.5,
        "photometric": True,
        "num_classes": 150,
    }
    return Augmentation(**(default | words))


def test_sizes_are_those_of_the_published_pipeline_for_its_draws():
    rows = json.loads(oracle("protocol/train/resize_ratio_range.json").read_text())
    assert len(rows) > 30
    for row in rows:
        drawn = draw_size((row["h"], row["w"]), rule(scale=tuple(row["img_scale"])), ListedDraws([row["draw"]]))
        assert drawn == (row["new_h"], row["new_w"])


def test_crops_are_drawn_again_as_often_as_the_published_pipeline_does():
    rows = json.loads(oracle("protocol/train/random_crop.json").read_text())
    labels = np.load(oracle("protocol/train/random_crop_labels.npz"))
    for row in rows:
        draws = SeededDraws(row["seed"])
        crop = rule(crop=tuple(row["crop_size"]), category_max_ratio=row["cat_max_ratio"])
        label = labels[row["label"]]
        box, cut = draw_crop(label, label.shape, crop, draws)
        assert [box.top, box.left] == row["used_offset_h_w"], row["name"]
        assert list(cut.shape) == row["out_shape"]
        assert zlib.crc32(np.ascontiguousarray(cut).tobytes()) == row["out_label_crc32"]


def test_colours_are_those_of_the_published_pipeline_for_its_draws():
    rows = json.loads(oracle("protocol/train/photometric.json").read_text())
    patches = np.load(oracle("protocol/train/photometric.npz"))
    for row in rows:
        draws = ListedDraws(row["draws_in_order"]) if "draws_in_order" in row else SeededDraws(row["seed"])
        colours = draw_colours(draws)
        # The records are BGR.
        result = in_colours(patches[f"in/{row['patch']}"][..., ::-1], colours)[..., ::-1].astype(int)
        # OpenCV's way back from HSV rounds by vector width and version: one step is allowed after it, none without.
        allowed = 0 if colours.saturation is None and colours.hue is None else 1
        if (colours.saturation is not None and colours.hue is not None) or colours.late_contrast is not None:
            allowed *= 4
        difference = np.abs(result - patches[f"out/{row['name']}"])
        assert difference.max() <= allowed, row["name"]
        assert difference.mean() < 0.75


def in_colours(image: np.ndarray, steps: ColourSteps) -> np.ndarray:
    height, width = image.shape[:2]
    box = (0, height, 0, width)
    return training_crop(np.ascontiguousarray(image), (height, width), box, mirrored=False, steps=steps)


def test_without_a_draw_the_colours_stay():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(in_colours(image, ColourSteps()), image)


def test_values_are_cut_and_not_rounded():
    image = np.array([[[0, 101, 255]]], np.uint8)
    assert in_colours(image, ColourSteps(brightness=-0.5)).ravel().tolist() == [0, 100, 254]
    assert in_colours(image, ColourSteps(brightness=1.0, early_contrast=0.5)).ravel().tolist() == [0, 51, 127]
    assert in_colours(image, ColourSteps(late_contrast=1.5)).ravel().tolist() == [0, 151, 255]


def test_the_whole_pipeline_takes_the_published_crop_for_a_seed():
    folder = oracle("protocol/images").parent
    rows = json.loads((folder / "train" / "whole.json").read_text())
    for row in rows:
        image = read_image(folder / "images" / row["image"])
        label = read_label(folder / "labels_ade" / row["image"].replace(".jpg", ".png"))
        index = np.where((label == 0) | (label == 255), 255, label.astype(int) - 1).astype(np.uint8)
        crop = rule(crop=tuple(row["crop_size"]), scale=tuple(row["img_scale"]))
        sample = augmented(image, index, crop, SeededDraws(row["seed"]))
        stage = row["stages"]["photo"]
        assert list(sample.image.shape) == stage["img"]
        assert zlib.crc32(sample.label.tobytes()) == stage["label_crc32"], row["tag"]
        if not any(name in str(row["draws"]["photo"]) for name in ("-18",)) and not _through_hsv(row):
            assert zlib.crc32(np.ascontiguousarray(sample.image[..., ::-1]).tobytes()) == stage["img_crc32"], row["tag"]
        elif (folder / "train" / row.get("photo_rgb", "-")).exists():
            recorded = read_image(folder / "train" / row["photo_rgb"]).astype(int)
            assert np.abs(sample.image.astype(int) - recorded).mean() < 0.75, row["tag"]


def _through_hsv(row) -> bool:
    colours = draw_colours(ListedDraws([value for *_, value in row["draws"]["photo"]]))
    return colours.saturation is not None or colours.hue is not None


def test_draws_have_the_published_distribution():
    draws = np.random.default_rng(7)
    drawn = [draw_colours(draws) for _ in range(4000)]
    # An even chance, for contrast of a place and then of a step: within 3.5 standard deviations (31.6 and 27.4).
    for name, low, high, expected, spread in (
        ("brightness", -32, 32, 2000, 111),
        ("early_contrast", 0.5, 1.5, 1000, 96),
        ("late_contrast", 0.5, 1.5, 1000, 96),
        ("saturation", 0.5, 1.5, 2000, 111),
        ("hue", -18, 17, 2000, 111),
    ):
        values = np.array([value for colours in drawn if (value := getattr(colours, name)) is not None])
        assert abs(len(values) - expected) < spread
        assert values.min() >= low and values.max() <= high
        spread = (high - low) / np.sqrt(12)
        assert abs(values.mean() - (low + high) / 2) < 4 * spread / np.sqrt(len(values))
        assert values.std() == pytest.approx(spread, rel=0.06)
    sizes = np.array([draw_size((512, 683), rule(scale=(2048, 512)), draws)[0] for _ in range(4000)])
    assert sizes.min() >= 256 and sizes.max() < 1024
    assert abs(sizes.mean() - 640) < 4 * 768 / np.sqrt(12 * 4000)


def test_a_mirrored_sample_mirrors_image_and_label():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    label = image[..., 0] % 150
    plain = {"crop": (20, 30), "scale": (30, 20), "scale_range": (1.0, 1.0), "photometric": False}
    kept = augmented(image, label, rule(**plain, flip=0.0), np.random.default_rng(0))
    turned = augmented(image, label, rule(**plain, flip=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(kept.image, image)
    np.testing.assert_array_equal(turned.image, image[:, ::-1])
    np.testing.assert_array_equal(turned.label, label[:, ::-1])


def test_a_picture_without_pixels_left_is_refused():
    with pytest.raises(DatasetError, match="1 x 4000"):
        draw_size((1, 4000), rule(scale=(512, 128)), np.random.default_rng(0))
