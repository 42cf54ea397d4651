"""The compiled training crop against OpenCV's own steps on the whole picture, byte for byte."""

from __future__ import annotations

import math
import zlib

import cv2
import numpy as np
import pytest
import torch
from variant_process import words_printed

from segzoo.kernels import native
from segzoo.kernels.training_crop import ColourSteps, label_crop, numbers_of, training_crop
from segzoo.kernels.training_crop_reference import label_crop as label_reference
from segzoo.kernels.training_crop_reference import training_crop as reference

STEPS = {
    "as they are": ColourSteps(),
    "brightness and contrast": ColourSteps(brightness=-20.3, early_contrast=1.37, late_contrast=0.61),
    "saturation": ColourSteps(saturation=1.31),
    "hue": ColourSteps(hue=-17),
    "all": ColourSteps(brightness=12.7, saturation=0.63, hue=9, late_contrast=1.2),
}


@pytest.fixture(scope="module", autouse=True)
def compiled():
    native.load()
    if "training_crop" not in native._state.libraries.get("cpu", {}):
        pytest.skip("no compiler here, or SEGZOO_KERNELS=reference")


def both(image: np.ndarray, size, box, mirrored: bool, steps: ColourSteps) -> tuple[np.ndarray, np.ndarray]:
    ours = training_crop(image, size, box, mirrored=mirrored, steps=steps)
    theirs = reference(torch.from_numpy(image), list(size), list(box), mirrored, numbers_of(steps)).numpy()
    return ours.astype(int), theirs.astype(int)


@pytest.mark.parametrize("factor", [0.37, 0.5, 1.0, 1.29, 2.0, 3.3])
@pytest.mark.parametrize("sides", [(50, 70), (33, 91), (97, 3), (1, 40)])
def test_any_part_at_any_size_has_opencvs_bytes(sides, factor):
    image = np.random.default_rng(0).integers(0, 256, (*sides, 3)).astype(np.uint8)
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in sides)
    boxes = {(0, height, 0, width), (height // 3, height, width // 3, width), (0, 1, 0, 1), (height - 1, height, 0, 1)}
    for box in boxes:
        for mirrored in (False, True):
            ours, theirs = both(image, (height, width), box, mirrored, ColourSteps())
            np.testing.assert_array_equal(ours, theirs, str((box, mirrored)))


@pytest.mark.parametrize("name", STEPS)
def test_colours_have_opencvs_bytes(name):
    # Every colour of a coarse cube; OpenCV rounds otherwise in the last columns, where no whole vector is left.
    values = np.arange(0, 256, 4, dtype=np.uint8)
    image = np.stack(np.meshgrid(values, values, values, indexing="ij"), -1).reshape(512, 512, 3)
    ours, theirs = both(image, (512, 512), (0, 512, 0, 512), False, STEPS[name])
    np.testing.assert_array_equal(ours, theirs)


def test_columns_after_opencvs_last_vector_differ_by_its_rounding_alone():
    image = np.random.default_rng(1).integers(0, 256, (20, 45, 3)).astype(np.uint8)
    ours, theirs = both(image, (20, 45), (0, 20, 0, 45), False, STEPS["hue"])
    np.testing.assert_array_equal(ours[:, :32], theirs[:, :32])
    assert np.abs(ours - theirs).max() <= 1


_PRINT_CHECKSUMS = """
from test_training_crop import checksums
print(*checksums())
"""


def checksums() -> list[int]:
    image = np.random.default_rng(2).integers(0, 256, (201, 377, 3)).astype(np.uint8)
    linear = ColourSteps(brightness=3.0, early_contrast=1.2, late_contrast=0.8)
    words = {"size": (290, 413), "box": (5, 280, 9, 410), "mirrored": True}
    crops = [training_crop(image, **words, steps=steps) for steps in (linear, ColourSteps(saturation=1.31, hue=-17))]
    return [zlib.crc32(crop.tobytes()) for crop in crops]


@pytest.mark.parametrize("variant", ["portable", "avx2"])
def test_every_processor_variant_gives_the_same_bytes(variant):
    assert [int(word) for word in words_printed(_PRINT_CHECKSUMS, variant)] == checksums()


@pytest.mark.parametrize("sides", [(50, 70), (33, 91), (97, 3), (512, 683)])
def test_parts_of_labels_are_opencvs_nearest_neighbours_and_counted(sides):
    label = np.random.default_rng(0).integers(0, 256, sides).astype(np.uint8)
    for factor in (0.37, 0.5, 0.77, 1.0, 1.29, 2.0, 3.3):
        height, width = (max(1, math.floor(side * factor + 0.5)) for side in sides)
        whole = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        for box in ((0, height, 0, width), (height // 3, height, width // 3, width), (0, 1, 0, 1)):
            crop, counts = label_crop(label, (height, width), box)
            expected = whole[box[0] : box[1], box[2] : box[3]]
            np.testing.assert_array_equal(crop, expected)
            np.testing.assert_array_equal(counts, np.bincount(expected.ravel(), minlength=256))
            theirs = label_reference(torch.from_numpy(label), [height, width], list(box))
            np.testing.assert_array_equal(crop, theirs[0])
            np.testing.assert_array_equal(counts, theirs[1])


def test_read_only_and_mirrored_arrays_are_taken():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    expected = training_crop(image[:, ::-1].copy(), (20, 30), (0, 20, 0, 30), mirrored=False, steps=ColourSteps())
    image.flags.writeable = False
    given = training_crop(image[:, ::-1], (20, 30), (0, 20, 0, 30), mirrored=False, steps=ColourSteps())
    np.testing.assert_array_equal(given, expected)
    label_crop(image[..., 0], (20, 30), (0, 20, 0, 30))


def test_boxes_outside_the_picture_are_refused():
    image = np.zeros((8, 8, 3), np.uint8)
    for box in ((0, 9, 0, 8), (0, 8, -1, 8), (4, 4, 0, 8)):
        with pytest.raises(RuntimeError, match="box is not inside"):
            training_crop(image, (8, 8), box, mirrored=False, steps=ColourSteps())
