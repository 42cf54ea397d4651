"""From the decoded picture to the network's input, to the last bit."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from oracle_files import oracle
from tiny_network import picture

from segzoo.data.read import read_image
from segzoo.errors import DatasetError, UsageError
from segzoo.inference.preprocess import (
    aligned_size,
    check_image,
    flip,
    network_input,
    normalise,
    resize,
    resized_size,
    view_size,
)
from segzoo.protocol import IMAGENET_MEAN, IMAGENET_STD, Protocol


def crc32(values) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())


def test_resized_sizes_are_those_of_the_published_rule():
    rows = json.loads(oracle("protocol/preprocess/resized_sizes.json").read_text())["rows"]
    assert len(rows) == 600
    for width, height, first, second, new_width, new_height in rows:
        assert resized_size((height, width), (first, second)) == (new_height, new_width)


def test_resizing_uint8_is_exact():
    recorded = np.load(oracle("protocol/preprocess/resize_uint8.npz"))
    numbers = {name.split("/")[0] for name in recorded.files}
    assert len(numbers) == 14
    for number in numbers:
        wanted = recorded[f"{number}/linear"]
        found = resize(recorded[f"{number}/in"], wanted.shape[:2])
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, wanted)


def test_an_image_of_the_wanted_size_is_not_touched():
    image = picture(7, 9)
    assert resize(image, (7, 9)) is image


def test_normalisation_divides_in_float32():
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    found = normalise(levels, IMAGENET_MEAN, IMAGENET_STD)
    assert found.shape == (3, 1, 256) and found.is_contiguous()
    for channel in range(3):
        wanted = (np.arange(256, dtype=np.float32) - np.float32(IMAGENET_MEAN[channel])) / np.float32(
            IMAGENET_STD[channel]
        )
        np.testing.assert_array_equal(found[channel, 0].numpy(), wanted)
    # By hand: (255 - 123.675) / 58.395 = 2.24890...
    assert abs(float(found[0, 0, 255]) - 2.248908) < 1e-6


def test_aligned_resize_rounds_twice():
    image = picture(45, 83)
    protocol = Protocol(scale=(120, 70), size_divisor=32)
    first = resize(image, (65, 120))
    assert view_size((45, 83), protocol, 1.0) == (65, 120)
    twice = normalise(resize(first, (96, 128)), protocol.mean, protocol.std)
    once = normalise(resize(image, (96, 128)), protocol.mean, protocol.std)
    found = network_input(image, protocol)
    np.testing.assert_array_equal(found.numpy(), twice.numpy())
    assert not np.array_equal(found.numpy(), once.numpy())


@pytest.mark.parametrize(
    ("size", "divisor", "wanted"), [((512, 683), 32, (512, 704)), ((1, 33), 32, (32, 64)), ((5, 6), 1, (5, 6))]
)
def test_aligned_sizes(size, divisor, wanted):
    assert aligned_size(size, divisor) == wanted


def test_without_a_scale_only_the_ratio_counts():
    protocol = Protocol(scale=None)
    assert view_size((100, 75), protocol, 1.0) == (100, 75)
    assert view_size((100, 75), protocol, 0.5) == (50, 38)


def test_flipping_swaps_the_named_sides():
    pixels = normalise(picture(4, 6), (0.0,) * 3, (1.0,) * 3)
    np.testing.assert_array_equal(flip(pixels, "horizontal").numpy(), pixels.numpy()[:, :, ::-1])
    np.testing.assert_array_equal(flip(pixels, "vertical").numpy(), pixels.numpy()[:, ::-1])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(DatasetError, match="image"):
        check_image(image)


def test_a_side_that_would_vanish_is_refused():
    with pytest.raises(UsageError, match="3000 x 1 becomes 512 x 0"):
        view_size((3000, 1), Protocol(scale=(512, 512)), 1.0)


def test_resizes_of_the_recorded_pictures_are_exact():
    facts = json.loads(oracle("protocol/preprocess/images.json").read_text())
    for name, fact in facts.items():
        image = read_image(oracle(f"protocol/images/{name}"))
        assert crc32(image[..., ::-1]) == fact["decoded_bgr_crc32"], name
        for scale, resized in fact["resized"].items():
            size = resized_size(image.shape[:2], tuple(int(side) for side in scale.split("x")))
            assert list(size) == resized["hw"]
            assert crc32(resize(image, size)[..., ::-1]) == resized["bgr_uint8_crc32"], (name, scale)


@pytest.mark.parametrize(
    "case", ["whole_ms_flip", "whole_align32_ss", "pcontext60_slide480_160_ms_flip_zeropad", "slide512_341_ss"]
)
def test_network_inputs_of_the_recorded_cases_are_exact(case):
    facts = json.loads(oracle(f"protocol/cases/{case}/metrics.json").read_text())
    recorded = json.loads(oracle(f"protocol/cases/{case}/views.json").read_text())
    protocol = Protocol(
        scale=tuple(facts["img_scale"]),
        ratios=tuple(facts["img_ratios"] or (1.0,)),
        size_divisor=32 if facts["resize"].startswith("AlignResize") else None,
    )
    for name, views in recorded.items():
        image = read_image(oracle(f"protocol/images/{name}"))
        for number, view in enumerate(views):
            ratio = protocol.ratios[number // 2 if facts["flip"] else number]
            pixels = network_input(image, protocol, ratio)
            pixels = flip(pixels, "horizontal") if view["flip"] else pixels
            assert crc32(pixels.numpy()) == view["tensor_crc32"], (name, ratio, view["flip"])
