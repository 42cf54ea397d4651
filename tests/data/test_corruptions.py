"""Corruptions against what their definitions say of simple images, by hand and by scipy."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from scipy import ndimage
from tiny_network import picture

from segzoo.data import open_dataset
from segzoo.data.corruptions import FAMILIES, KINDS, STRENGTHS, CorruptedDataset, Corruption, parse_corruptions
from segzoo.data.corruptions_blur import disc, trail
from segzoo.data.corruptions_weather import clouds
from segzoo.errors import UsageError

ALL = [Corruption(kind, strength) for kind in KINDS for strength in STRENGTHS]
PHOTO = picture(96, 130, seed=4)


def flat(value, size=(200, 300)):
    return np.full((*size, 3), value, np.uint8)


def differences(kind):
    """Mean absolute change of the photo's values by strength."""
    return [np.abs(Corruption(kind, strength)(PHOTO, "a").astype(float) - PHOTO).mean() for strength in STRENGTHS]


@pytest.mark.parametrize("corruption", ALL, ids=str)
def test_a_corruption_changes_the_image_and_nothing_about_its_form(corruption):
    before = PHOTO.copy()
    found = corruption(PHOTO, "a")
    assert np.array_equal(PHOTO, before)
    assert found.dtype == np.uint8 and found.shape == PHOTO.shape
    assert np.abs(found.astype(int) - PHOTO).mean() > 1
    for size in ((1, 1), (1, 40), (37, 2)):
        assert corruption(picture(*size), "a").shape == (*size, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_depends_on_the_image_name_kind_and_strength_alone(kind):
    np.random.seed(0)
    first = [Corruption(kind, strength)(PHOTO, "a") for strength in STRENGTHS]
    np.random.seed(1)
    again = [Corruption(kind, strength)(PHOTO, "a") for strength in reversed(STRENGTHS)]
    assert all(np.array_equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    other_name = Corruption(kind, 3)(PHOTO, "b")
    assert np.array_equal(first[2], other_name) != KINDS[kind].random


def test_the_values_drawn_for_an_image_are_the_same_on_every_machine():
    noise = Corruption("impulse-noise", 5)(flat(100, (64, 64)), "street")
    # Which values are hit is a matter of comparisons of exact numbers, so that no rounding can differ.
    digest = hashlib.sha256(noise.tobytes()).hexdigest()
    assert digest.startswith("5b6f2403db2e9c0c")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("fog", "snow", "frost", "saturate", "motion")])
def test_a_higher_strength_changes_more(kind):
    found = differences(kind)
    assert found[-1] > 1.3 * found[0]
    # Blocks of half a pixel more or less may happen to lie better.
    assert found == sorted(found) or kind == "pixelate"


@pytest.mark.parametrize(("strength", "deviation"), [(1, 0.08), (3, 0.18)])
def test_gaussian_noise_has_its_deviation(strength, deviation):
    noise = Corruption("gaussian-noise", strength)(flat(128), "a") / 255.0
    assert noise.std() == pytest.approx(deviation, rel=0.02) and noise.mean() == pytest.approx(128 / 255, abs=0.002)


@pytest.mark.parametrize(("strength", "photons"), [(1, 60), (3, 12)])
def test_shot_noise_has_the_deviation_of_photons(strength, photons):
    noise = Corruption("shot-noise", strength)(flat(64), "a") / 255.0
    assert noise.std() == pytest.approx(math.sqrt(64 / 255 / photons), rel=0.02)
    assert noise.mean() == pytest.approx(64 / 255, abs=0.002)
    # Whole numbers of photons.
    assert np.abs(noise * photons - np.rint(noise * photons)).max() < photons / 255


def test_impulse_noise_hits_its_share_half_black_half_white():
    noise = Corruption("impulse-noise", 4)(flat(100), "a")
    assert (noise == 0).mean() == pytest.approx(0.085, abs=0.003)
    assert (noise == 255).mean() == pytest.approx(0.085, abs=0.003)
    assert set(np.unique(noise)) == {0, 100, 255}


@pytest.mark.parametrize("radius", [3, 4.5, 10])
def test_a_disc_covers_the_area_of_a_circle_and_sums_to_one(radius):
    weights = disc(radius)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    # A pixel well inside has the weight 1 / area.
    middle = len(weights) // 2
    assert weights[middle, middle] == pytest.approx(1 / (math.pi * radius**2), rel=0.02)
    assert weights[0, 0] == 0 and np.array_equal(weights, weights.T)


def test_defocus_is_a_convolution_with_the_disc():
    found = Corruption("defocus", 2)(PHOTO, "a")
    for channel in range(3):
        expected = ndimage.convolve(PHOTO[..., channel].astype(float), disc(4).astype(float), mode="nearest")
        assert np.abs(found[..., channel] - expected).max() <= 0.51


def test_gaussian_blur_is_scipys():
    found = Corruption("gaussian-blur", 3)(PHOTO, "a")
    expected = ndimage.gaussian_filter(PHOTO.astype(float), (3, 3, 0), mode="nearest", truncate=4)
    assert np.abs(found - expected).max() <= 0.51


def test_a_trail_runs_one_way_from_the_middle_and_fades():
    along = trail(10, 3, 0)
    middle = len(along) // 2
    assert along.sum() == pytest.approx(1, abs=1e-5)
    row = along[middle]
    assert row[:middle].sum() == 0 and row.sum() == pytest.approx(1, abs=1e-5)
    assert row[middle + 3] / row[middle] == pytest.approx(math.exp(-0.5))
    assert np.allclose(trail(10, 3, 90), along.T, atol=1e-6)
    # 30 degrees down to the right: the centre of weight lies in that direction.
    slanted = trail(10, 8, 30)
    rows, columns = np.mgrid[: len(slanted), : len(slanted)] - len(slanted) // 2
    assert (rows * slanted).sum() / (columns * slanted).sum() == pytest.approx(math.tan(math.radians(30)), rel=1e-3)


def test_motion_keeps_flat_images_and_smears_a_point():
    assert np.array_equal(Corruption("motion", 5)(flat(77, (60, 60)), "a"), flat(77, (60, 60)))
    point = np.zeros((91, 91, 3), np.uint8)
    point[45, 45] = 255
    smeared = Corruption("motion", 5)(point, "a")[..., 0]
    rows, columns = np.nonzero(smeared)
    assert np.ptp(columns) > 15 and np.ptp(columns) >= np.ptp(rows) - 2


def test_zoom_leaves_the_middle_and_blurs_the_edges_outwards():
    point = np.zeros((101, 101, 3), np.uint8)
    point[50, 50] = point[50, 90] = 255
    found = Corruption("zoom", 1)(point, "a")[..., 0].astype(int)
    assert found[50, 50] == 255
    # The second point moves from column 90 to 50 + 40 * 1.1 = 94 in eleven steps, and counts twice where it is.
    assert found[50, 89] <= 2 and found[50, 96] == 0 and found[50, 91:95].min() > 10


def test_brightness_contrast_and_saturation_by_hand():
    grey = flat(100)
    assert np.unique(Corruption("brightness", 2)(grey, "a")).tolist() == [151]
    two = flat(100)
    two[:, :150] = 200
    # Mean 150, and of the difference of 50 a tenth stays.
    assert np.unique(Corruption("contrast", 4)(two, "a")).tolist() == [145, 155]
    red = flat(0)
    red[:] = (200, 100, 100)
    # Saturation 0.5: a tenth of it is 0.05 of 200.
    assert Corruption("saturate", 2)(red, "a")[0, 0].tolist() == [200, 190, 190]
    assert Corruption("saturate", 3)(red, "a")[0, 0].tolist() == [200, 0, 0]


def test_pixelate_makes_blocks_with_the_mean_of_what_was_there():
    image = picture(80, 120)
    found = Corruption("pixelate", 5)(image, "a")
    blocks = image.reshape(20, 4, 30, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(found.reshape(20, 4, 30, 4, 3) - blocks[:, None, :, None]).max() <= 0.51


def test_jpeg_is_worse_than_the_same_file_at_a_better_quality_and_close_to_the_image():
    smooth = ndimage.gaussian_filter(picture(96, 128).astype(float), (3, 3, 0)).astype(np.uint8)
    found = [np.abs(Corruption("jpeg", strength)(smooth, "a").astype(float) - smooth).mean() for strength in STRENGTHS]
    assert found == sorted(found) and found[0] < 6


def test_clouds_fill_the_range_and_are_smoother_with_a_larger_decay():
    fields = {decay: clouds((100, 128), decay, np.random.default_rng(2)) for decay in (1.4, 2.0)}
    for field in fields.values():
        assert field.shape == (100, 128) and field.min() >= 0 and field.max() <= 1 and np.ptp(field) > 0.5
    steps = {decay: np.abs(np.diff(field, axis=1)).mean() for decay, field in fields.items()}
    assert steps[2.0] < 0.6 * steps[1.4]


def test_fog_is_brighter_where_it_is_dark_and_takes_contrast():
    found = [Corruption("fog", strength)(PHOTO, "a") for strength in STRENGTHS]
    assert all(image.std() < PHOTO.std() for image in found)
    assert all(Corruption("fog", 5)(flat(0, (64, 64)), name).max() == 0 for name in "ab")


def test_snow_whitens_and_frost_lies_over_the_image():
    dark = flat(30, (120, 160))
    for strength in STRENGTHS:
        snowed = Corruption("snow", strength)(dark, "a")
        assert snowed.mean() > dark.mean() + 10 and snowed.max() > 200
    frozen = Corruption("frost", 5)(dark, "a").astype(int)
    assert frozen.min() >= round(0.6 * 30) and frozen[..., 2].mean() > frozen[..., 0].mean()


@pytest.mark.parametrize(
    ("words", "count"),
    [(["fog:3"], 1), (["fog"], 5), (["noise"], 15), (["blur:1"], 4), (["all"], 75), (["all:2"], 15),
     (["fog:3", "fog", "weather"], 20), (["Gaussian_Noise:5"], 1)],
)  # fmt: skip
def test_words_name_kinds_families_and_strengths(words, count):
    found = parse_corruptions(words)
    assert len(found) == len(set(found)) == count


def test_every_kind_has_a_family_and_five_parameters():
    assert {kind.family for kind in KINDS.values()} == set(FAMILIES)
    assert all(len(kind.parameters) == 5 for kind in KINDS.values())
    assert str(parse_corruptions(["Gaussian_Noise:5"])[0]) == "gaussian-noise:5"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("fgo", "did you mean 'fog'"),
        ("fog:6", "impossible strength '6'"),
        ("fog:", "give 1 to 5"),
        ("", "there are: all"),
    ],
)
def test_wrong_words_are_refused_with_what_there_is(word, said):
    with pytest.raises(UsageError, match=said):
        parse_corruptions([word])


def test_a_corrupted_data_set_has_the_same_labels_names_and_fingerprint():
    clean = open_dataset("scenes")
    dataset = CorruptedDataset(clean, Corruption("contrast", 5))
    assert len(dataset) == len(clean) and dataset.fingerprint() == clean.fingerprint()
    assert dataset.image_name(2) == clean.image_name(2) and dataset.palette == clean.palette
    assert np.array_equal(dataset.label(2), clean.label(2))
    expected = Corruption("contrast", 5)(clean.image(2), clean.image_name(2))
    assert np.array_equal(dataset.image(2), expected) and not np.array_equal(expected, clean.image(2))
