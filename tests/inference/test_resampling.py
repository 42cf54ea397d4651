"""Windows along a side, and the matrix from logits to image pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tap_matrix import matrix_of
from torch.nn import functional as F

from segzoo.inference.resampling import Side, bilinear_taps, side_taps
from segzoo.inference.windows import Window, window_grid, windows
from segzoo.protocol import Protocol

CPU = torch.device("cpu")


def interpolated(values: np.ndarray, size: int) -> np.ndarray:
    """PyTorch's bilinear resize of columns of numbers [n, k] to [size, k]."""
    image = torch.from_numpy(values.astype(np.float32))[None, None]
    return F.interpolate(image, size=(size, values.shape[1]), mode="bilinear", align_corners=False)[0, 0].numpy()


def spans(found: tuple[Window, ...]) -> list[tuple[int, int, int]]:
    return [(window.start, window.stop, window.padded) for window in found]


def test_windows_by_hand():
    assert spans(windows(683, 512, 341)) == [(0, 512, 512), (171, 683, 512)]
    assert spans(windows(512, 512, 341)) == [(0, 512, 512)]
    # Starts 0, 160, and the last shifted back from 320 to 203.
    assert spans(windows(683, 480, 160)) == [(0, 480, 480), (160, 640, 480), (203, 683, 480)]
    assert spans(windows(300, 480, 160)) == [(0, 300, 300)]
    assert spans(windows(300, 480, 160, pad=True)) == [(0, 300, 480)]
    # A stride that is longer than the window leaves no gap at the end.
    assert spans(windows(10, 4, 3)) == [(0, 4, 4), (3, 7, 4), (6, 10, 4)]


def test_a_grid_has_a_height_and_a_width():
    protocol = Protocol(mode="slide", crop=(4, 6), stride=(2, 3))
    rows, columns = window_grid((8, 9), protocol)
    assert [window.start for window in rows] == [0, 2, 4] and [window.start for window in columns] == [0, 3]
    rows, columns = window_grid((8, 9), Protocol())
    assert spans(rows) == [(0, 8, 8)] and spans(columns) == [(0, 9, 9)]


@pytest.mark.parametrize(("size_in", "size_out"), [(3, 10), (171, 683), (683, 640), (7, 7), (1, 5), (9, 1), (224, 895)])
def test_taps_are_those_of_pytorch(size_in, size_out):
    left, right, weight = bilinear_taps(size_in, size_out)
    values = np.random.default_rng(1).normal(size=(size_in, 2)).astype(np.float32)
    found = values[left] * (1 - weight[:, None]) + values[right] * weight[:, None]
    np.testing.assert_allclose(found, interpolated(values, size_out), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("logits", "network", "image"), [(5, 17, 17), (5, 17, 23), (43, 171, 60), (1, 4, 9), (8, 8, 8)]
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_whole_image_is_resized_twice(logits, network, image, mirrored):
    side = Side(image=image, windows=windows(network, network, network), logits=logits, mirrored=mirrored)
    values = np.random.default_rng(2).normal(size=(logits, 3))
    wanted = interpolated(interpolated(values, network), image)
    np.testing.assert_allclose(
        matrix_of(side).numpy() @ values, wanted[::-1] if mirrored else wanted, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize(("network", "image"), [(50, 50), (50, 33), (11, 20)])
def test_windows_are_upsampled_averaged_and_resized(network, image, pad):
    stretch = windows(network, 20, 7, pad=pad)
    logits = -(-stretch[0].padded // 4)
    side = Side(image=image, windows=stretch, logits=logits)
    values = np.random.default_rng(3).normal(size=(logits * len(stretch), 2))
    total, covered = np.zeros((network, 2)), np.zeros((network, 1))
    for number, window in enumerate(stretch):
        upsampled = interpolated(values[number * logits : (number + 1) * logits], window.padded)
        total[window.start : window.stop] += upsampled[: window.stop - window.start]
        covered[window.start : window.stop] += 1
    wanted = interpolated(total / covered, image)
    np.testing.assert_allclose(matrix_of(side).numpy() @ values, wanted, rtol=0, atol=1e-5)


def test_taps_are_in_order_and_stand_once_in_a_row():
    taps = side_taps(Side(image=45, windows=windows(60, 30, 13), logits=8, mirrored=True), CPU)
    for sources, weights in zip(taps.sources.tolist(), taps.weights.tolist(), strict=True):
        used = [source for source, weight in zip(sources, weights, strict=True) if weight > 0]
        assert used == sorted(set(used)) and min(sources) >= 0 and max(sources) < 8 * 4
    # Without a second resize a pixel lies between two logits.
    assert side_taps(Side(image=60, windows=windows(60, 60, 60), logits=15), CPU).sources.shape == (60, 2)


def test_every_pixel_is_a_mean_of_logits():
    full = matrix_of(Side(image=45, windows=windows(60, 30, 13), logits=8)).numpy()
    assert full.min() >= 0
    np.testing.assert_allclose(full.sum(1), 1, rtol=0, atol=1e-6)
