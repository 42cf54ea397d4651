"""predict against label maps recorded from the published tool chain."""

from __future__ import annotations

import json

import numpy as np
import published_chain
import pytest
import torch
from fill import input_image
from oracle_files import oracle
from PIL import Image
from tiny_network import TinyNetwork

from segzoo.data.read import read_image
from segzoo.inference import predict
from segzoo.protocol import Protocol

SINGLE_SCALE = [
    "whole_ss",
    "whole_align32_ss",
    "slide512_341_ss",
    "slide480_160_ss_nopad",
    "slide480_160_ss_zeropad",
    "pcontext59_whole_ss",
    "pcontext59_slide480_160_ss_zeropad",
]
MULTI_SCALE = [
    "whole_ms_flip",
    "slide512_341_ms_flip",
    "slide480_160_ms_flip_zeropad",
    "pcontext60_slide480_160_ms_flip_zeropad",
]
SMALL = ["exif6.jpg", "tiny.jpg"]


def check(case: str, names: list[str] | None) -> None:
    """At most 1e-5 of the pixels differ, and only where the best two classes are within 1e-4."""
    facts = json.loads(oracle(f"protocol/cases/{case}/metrics.json").read_text())
    network, protocol = TinyNetwork(facts["model"], facts["num_classes"]), protocol_of(facts)
    pixels = sum(facts["pixels"][name] for name in facts["images"])
    differing = 0
    for name in names or facts["images"]:
        path = oracle(f"protocol/images/{name}")
        with Image.open(oracle(f"protocol/cases/{case}/pred/{path.stem}.png")) as recorded:
            wanted = np.array(recorded)
        found = predict(network, path, protocol)
        assert found.shape == wanted.shape
        if (wrong := found != wanted).any():
            differing += int(wrong.sum())
            assert published_chain.margin(network, read_image(path), protocol)[wrong].max() < 1e-4
    assert differing <= 1e-5 * pixels


def protocol_of(facts: dict) -> Protocol:
    windows = facts["test_cfg"]
    return Protocol(
        mode=windows["mode"],
        scale=tuple(facts["img_scale"]),
        ratios=tuple(facts["img_ratios"] or (1.0,)),
        flip=facts["flip"],
        flip_direction=facts["flip_direction"],
        crop=tuple(windows["crop_size"]) if "crop_size" in windows else None,
        stride=tuple(windows["stride"]) if "stride" in windows else None,
        pad_windows=facts["inference_code"].startswith("amazon-research/unified-ept"),
        size_divisor=32 if facts["resize"].startswith("AlignResize") else None,
    )


@pytest.mark.parametrize("case", SINGLE_SCALE)
def test_single_scale_label_maps(case):
    check(case, None)


@pytest.mark.parametrize("case", MULTI_SCALE)
def test_multi_scale_label_maps_of_small_pictures(case):
    check(case, SMALL if case == "whole_ms_flip" else SMALL[1:])


@pytest.mark.slow
@pytest.mark.parametrize("case", MULTI_SCALE)
def test_multi_scale_label_maps(case):
    check(case, None)


@pytest.mark.parametrize("classes", [150, 59, 60])
def test_the_tiny_network_is_the_recorded_one(classes):
    recorded = np.load(oracle("protocol/model_check.npz"))
    names = [name for name in recorded.files if str(classes) in name]
    assert names
    for name in names:
        with torch.inference_mode():
            pixels = torch.from_numpy(input_image("proto-check", (1, 3, 70, 91)))
            found = TinyNetwork(f"tiny{classes}/", classes)(pixels).numpy()
        np.testing.assert_allclose(found, recorded[name], rtol=0, atol=1e-4 * recorded[name].std())
