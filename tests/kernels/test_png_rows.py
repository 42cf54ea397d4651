"""Undoing PNG's row filters: the compiled kernel and the reference against rows that were filtered here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segzoo.kernels import native
from segzoo.kernels.png_rows import is_compiled, png_rows, reference

SIZES = [(1, 1), (3, 7), (5, 8), (9, 16), (12, 61)]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    native.load()
    if not is_compiled():
        pytest.skip("no compiler here, or SEGZOO_KERNELS=reference")


def filtered(pixels: np.ndarray, kinds: list[int]) -> np.ndarray:
    """Rows as an encoder writes them: what is left of a pixel after its prediction, by whole-array arithmetic."""
    values = np.zeros((pixels.shape[0] + 1, pixels.shape[1] + 1), int)
    values[1:, 1:] = pixels
    here, left, above, corner = values[1:, 1:], values[1:, :-1], values[:-1, 1:], values[:-1, :-1]
    neighbours = np.stack([left, above, corner])
    # argmin takes the first of equals, in the specification's order.
    nearest = np.abs(neighbours - (left + above - corner)).argmin(0)
    paeth = np.take_along_axis(neighbours, nearest[None], 0)[0]
    predictions = np.stack([np.zeros_like(here), left, above, (left + above) // 2, paeth])
    chosen = predictions[kinds, np.arange(len(kinds))]
    return np.column_stack([kinds, (here - chosen) % 256]).astype(np.uint8).ravel()


def flat(size: tuple[int, int], seed: int) -> np.ndarray:
    """Like a label map: a few rectangles of one value each, and single pixels between them."""
    draws = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    for _ in range(6):
        top, left = draws.integers(0, size[0]), draws.integers(0, size[1])
        label[top : top + draws.integers(1, 9), left : left + draws.integers(1, 30)] = draws.integers(0, 256)
    label[draws.random(size) < 0.02] = draws.integers(0, 256)
    return label


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", range(5))
def test_every_filter_is_undone_for_noise_and_for_flat_labels(kind, size):
    noise = np.random.default_rng(kind).integers(0, 256, size).astype(np.uint8)
    for pixels in (noise, noise % 3, *(flat(size, seed) for seed in range(8))):
        rows = filtered(pixels, [kind] * size[0])
        np.testing.assert_array_equal(png_rows(rows, *size), pixels)
        np.testing.assert_array_equal(reference(torch.from_numpy(rows), *size), pixels)


def test_rows_of_all_filters_follow_one_another():
    for seed in range(20):
        pixels = flat((40, 75), seed)
        kinds = np.random.default_rng(seed).integers(0, 5, 40).tolist()
        np.testing.assert_array_equal(png_rows(filtered(pixels, kinds), 40, 75), pixels)


def test_a_wrong_number_of_bytes_and_an_unknown_filter_are_refused():
    for rows in (np.zeros(11, np.uint8), np.zeros(13, np.uint8)):
        for undo in (png_rows, lambda rows, *size: reference(torch.from_numpy(rows), *size)):
            with pytest.raises(RuntimeError, match=f"{len(rows)} bytes are not 3 rows of 1 \\+ 3"):
                undo(rows, 3, 3)
    rows = np.zeros(12, np.uint8)
    rows[4] = 5
    for undo in (png_rows, lambda rows, *size: reference(torch.from_numpy(rows), *size)):
        with pytest.raises(RuntimeError, match="row 1 has filter 5, not 0 to 4"):
            undo(rows, 3, 3)


def test_opcheck_passes():
    rows = torch.from_numpy(filtered(flat((6, 20), 0), [4] * 6))
    torch.library.opcheck(torch.ops.segzoo.png_rows.default, (rows, 6, 20))
