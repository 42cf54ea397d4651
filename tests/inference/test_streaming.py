"""Sliding windows in bounded memory: the labels of keeping everything, and the memory of a process of its own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_network import TinyNetwork, picture

from segzoo.inference import Network, predict, predict_and_count, streaming
from segzoo.inference.streaming import streamed_label_map
from segzoo.inference.tail import Counting, label_map
from segzoo.metrics import ConfusionMatrix
from segzoo.protocol import Protocol

SLIDE = Protocol(mode="slide", scale=None, crop=(64, 48), stride=(40, 31))
PROTOCOLS = {
    "one view": SLIDE,
    "resized": dataclasses.replace(SLIDE, scale=(150, 250)),
    "padded": dataclasses.replace(SLIDE, crop=(256, 256), stride=(100, 100), pad_windows=True),
    "aligned": dataclasses.replace(SLIDE, size_divisor=32),
    "many overlaps": dataclasses.replace(SLIDE, stride=(16, 12)),
    "views": dataclasses.replace(SLIDE, ratios=(0.5, 1.0, 1.25), flip=True),
    "views mirrored vertically": dataclasses.replace(SLIDE, ratios=(0.75, 1.5), flip=True, flip_direction="vertical"),
}
NETWORK = TinyNetwork("tiny150/", 150)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_labels_and_counts_are_those_of_keeping_the_logits_of_all_windows(name, batch_size):
    image, protocol = picture(150, 221), PROTOCOLS[name]
    network = Network(NETWORK, batch_size=batch_size)
    target = torch.from_numpy(np.random.default_rng(0).integers(0, 151, (150, 221)).astype(np.uint8))
    counting = Counting(target=target, num_classes=150, ignore=150)
    with torch.inference_mode():
        labels, counts = label_map(network.views(image, protocol), count=protocol.views, counting=counting)
        found, counted = streamed_label_map(network, image, protocol, limit_bytes=1, counting=counting)
    # Another order of a few summands is all that is different.
    assert (found != labels).sum() <= 1 and len(labels.unique()) > 5
    assert (counted - counts).abs().sum() <= 2 and counted.sum() == (target != 150).sum()


def test_panels_are_as_few_as_fit_and_no_more():
    network, image = Network(NETWORK), picture(150, 400)
    with torch.inference_mode():
        views = list(streaming._views(network, image, PROTOCOLS["views"]))
    whole = sum(view.bytes_for(slice(0, 400)) for view in views)
    assert streaming._panels(views, 400, whole) == [slice(0, 400)]
    for limit in (whole - 1, whole // 2):
        panels = streaming._panels(views, 400, limit)
        assert len(panels) > 1 and panels[0].start == 0 and panels[-1].stop == 400
        assert max(sum(view.bytes_for(panel) for view in views) for panel in panels) <= limit


def test_predictions_stream_where_the_logits_are_too_many(monkeypatch):
    image, protocol = picture(150, 221), PROTOCOLS["views"]
    label = np.random.default_rng(0).integers(0, 150, (150, 221)).astype(np.int32)
    kept = predict(NETWORK, image, protocol)
    limits = []

    def watched(*words, limit_bytes, **others):
        limits.append(limit_bytes)
        return streamed_label_map(*words, limit_bytes=limit_bytes, **others)

    monkeypatch.setattr(streaming, "streamed_label_map", watched)
    monkeypatch.setattr(streaming, "LIMIT_BYTES", 3_000_000)
    assert (predict(NETWORK, image, protocol) != kept).sum() <= 1
    found, counts = predict_and_count(Network(NETWORK), image, protocol, label, num_classes=150, ignore=255)
    np.testing.assert_array_equal(counts, ConfusionMatrix(150).update(found, label))
    assert limits == [3_000_000, 3_000_000]
    # Whole images have no windows, and a large limit is not exceeded.
    predict(NETWORK, image, Protocol(scale=None))
    monkeypatch.setattr(streaming, "LIMIT_BYTES", 10**9)
    predict(NETWORK, image, protocol)
    assert len(limits) == 2


_PEAK = """
import resource, sys
import numpy as np, torch
from torch import nn
from segzoo.inference import predict, streaming
from segzoo.protocol import Protocol
side, limit, crop, stride = map(int, sys.argv[1:])
torch.manual_seed(0)
# Logits of 150 classes at stride 4, as cheap as they come.
network = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 150, 1)).eval()
protocol = Protocol(mode="slide", scale=None, crop=(crop, crop), stride=(stride, stride)).aug_test()
streaming.LIMIT_BYTES = 1
predict(network, np.zeros((2 * crop, 2 * crop, 3), np.uint8), protocol)
streaming.LIMIT_BYTES = limit
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
image = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
image = image.repeat(8, 0).repeat(8, 1)
labels = predict(network, image, protocol)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(labels.shape[0], len(np.unique(labels)), before, peak)
"""


def peak_bytes(side: int, limit: int, crop: int, stride: int) -> tuple[int, int]:
    """Resident memory of a process before and at its peak, that labels side x side pixels from 12 views."""
    command = [sys.executable, "-c", _PEAK, *map(str, (side, limit, crop, stride))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    height, classes, before, peak = map(int, done.stdout.split())
    assert height == side and classes > 10
    return before, peak


def test_memory_is_bounded_for_a_picture_of_600_pixels_a_side():
    limit = 16 * 2**20
    before, peak = peak_bytes(600, limit, 128, 85)
    # All logits would be 500 MB: 3.1 M pixels of input at six scales, twice, overlapping, 37.5 bytes each. Allowed are
    # the limit, 27 bytes a pixel for the pictures at six scales, the labels, and twice that for what is in work.
    assert peak - before < 3 * (limit + 30 * 600**2)


@pytest.mark.slow
def test_a_picture_of_8000_pixels_a_side_is_labelled_within_4_gb():
    _, peak = peak_bytes(8000, streaming.LIMIT_BYTES, 512, 341)
    print(f"peak {peak / 1e9:.2f} GB")
    assert peak < 4e9
