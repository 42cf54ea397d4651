"""predict against the published chain written down plainly, and what it refuses."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import published_chain
import pytest
import torch
from tiny_network import TinyNetwork, picture
from torch import nn

import segzoo
from segzoo.errors import DatasetError, SegzooError, UsageError
from segzoo.inference import Network, predict, predict_with, predict_with_confidence
from segzoo.protocol import Protocol

SLIDE = Protocol(mode="slide", scale=(160, 100), crop=(64, 48), stride=(40, 31))
PROTOCOLS = {
    "whole": Protocol(scale=(150, 100)),
    "own size": Protocol(scale=None),
    "smaller than the image": Protocol(scale=(60, 40)),
    "aligned": Protocol(scale=(150, 100), size_divisor=32),
    "sliding": SLIDE,
    "sliding over one window": dataclasses.replace(SLIDE, crop=(300, 300), stride=(100, 100)),
    "sliding with padding": dataclasses.replace(SLIDE, crop=(128, 96), stride=(50, 50), pad_windows=True),
    "flipped": Protocol(scale=(150, 100), flip=True),
    "flipped vertically": Protocol(scale=(150, 100), flip=True, flip_direction="vertical"),
    "multi-scale and flip": Protocol(scale=(120, 80)).aug_test(),
    "sliding, multi-scale and flip": dataclasses.replace(SLIDE, pad_windows=True, ratios=(0.5, 1.25), flip=True),
    "aligned, multi-scale and flip": Protocol(scale=(120, 80), size_divisor=16).aug_test(),
}
NETWORK = TinyNetwork("tiny150/", 150)


class Function(nn.Module):
    """A module without parameters."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: torch.Tensor):
        return self.answer(image)


def always(values: torch.Tensor) -> Function:
    """A network that gives the same logits [C, h, w] for every image."""
    return Function(lambda image: values.expand(image.shape[0], *values.shape))


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", [(75, 110), (111, 67)])
def test_labels_are_those_of_the_published_chain(name, size):
    image, protocol = picture(*size), PROTOCOLS[name]
    found, wanted = predict(NETWORK, image, protocol), published_chain.labels(NETWORK, image, protocol)
    assert found.shape == size and found.dtype == np.uint8
    assert len(np.unique(wanted)) > 5
    differing = found != wanted
    assert differing.sum() <= 1
    if differing.any():
        assert published_chain.margin(NETWORK, image, protocol)[differing].max() < 1e-5


@pytest.mark.parametrize("name", ["whole", "sliding with padding", "flipped", "sliding, multi-scale and flip"])
@pytest.mark.parametrize("views_at_once", [1, 100])
def test_confidence_is_the_published_chains_largest_probability(name, views_at_once, monkeypatch):
    image, protocol = picture(75, 110), PROTOCOLS[name]
    if views_at_once == 1:
        monkeypatch.setattr("segzoo.inference.tail._GROUP_BYTES", 1)
    labels, confidence = predict_with_confidence(Network(NETWORK), image, protocol)
    with torch.inference_mode():
        wanted = published_chain.probabilities(NETWORK, image, protocol).amax(0).numpy()
    assert confidence.dtype == np.float32 and confidence.shape == (75, 110)
    np.testing.assert_allclose(confidence, wanted, atol=2e-5)
    assert wanted.std() > 0.01
    np.testing.assert_array_equal(labels, predict(NETWORK, image, protocol))


@pytest.mark.parametrize("name", ["sliding with padding", "sliding, multi-scale and flip"])
def test_confidence_is_the_same_where_the_logits_of_all_windows_are_too_many(name, monkeypatch):
    image, protocol = picture(150, 110), PROTOCOLS[name]
    plain = predict_with_confidence(Network(NETWORK), image, protocol)
    monkeypatch.setattr("segzoo.inference.streaming.LIMIT_BYTES", 1)
    monkeypatch.setattr("segzoo.inference.prediction.confident_label_map", None)
    labels, confidence = predict_with_confidence(Network(NETWORK), image, protocol)
    np.testing.assert_array_equal(labels, plain[0])
    np.testing.assert_allclose(confidence, plain[1], atol=2e-6)


@pytest.mark.parametrize("stride", [1, 2, 8, 32])
def test_any_stride_of_the_head_is_brought_to_the_image(stride):
    torch.manual_seed(stride)
    network = nn.Conv2d(3, 7, 3, stride=stride, padding=1).eval()
    image, protocol = picture(70, 53), Protocol(scale=(64, 48))
    found = predict(network, image, protocol)
    np.testing.assert_array_equal(found, published_chain.labels(network, image, protocol))


@pytest.mark.parametrize("name", ["sliding with padding", "sliding, multi-scale and flip", "multi-scale and flip"])
@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_batches_of_windows_do_not_change_labels(name, batch_size):
    image, protocol = picture(75, 110), PROTOCOLS[name]
    found = predict(NETWORK, image, protocol, batch_size=batch_size)
    differing = found != predict(NETWORK, image, protocol, batch_size=1)
    # Convolutions of a batch may round differently.
    assert differing.sum() <= 1
    if differing.any():
        assert published_chain.margin(NETWORK, image, protocol)[differing].max() < 1e-5


@pytest.mark.parametrize("name", ["multi-scale and flip", "sliding, multi-scale and flip"])
def test_views_that_do_not_fit_together_give_the_same_labels(name, monkeypatch):
    image, protocol = picture(75, 110), PROTOCOLS[name]
    together = predict(NETWORK, image, protocol)
    monkeypatch.setattr("segzoo.inference.tail._GROUP_BYTES", 1)
    np.testing.assert_array_equal(predict(NETWORK, image, protocol), together)


@pytest.mark.parametrize("name", ["whole", "multi-scale and flip"])
@pytest.mark.parametrize("group_bytes", [1, 10**9])
def test_threads_share_the_tiles_and_change_nothing(name, group_bytes, monkeypatch):
    monkeypatch.setattr("segzoo.inference.tail._GROUP_BYTES", group_bytes)
    image, protocol, before = picture(75, 110), PROTOCOLS[name], torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(predict(NETWORK, image, protocol))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    differing = found[0] != found[1]
    # Convolutions in several threads may round differently.
    assert differing.sum() <= 1


def test_the_lowest_class_wins_a_tie():
    logits = torch.zeros(5, 3, 4)
    logits[[2, 4]] = 1.0
    image = picture(20, 30)
    for protocol in (Protocol(scale=None), Protocol(scale=None).aug_test(), Protocol(scale=(77, 55), flip=True)):
        assert (predict(always(logits), image, protocol) == 2).all()


def test_two_windows_are_averaged_by_hand():
    # Two windows of 4 pixels over 6: the first says class 0 with 3, the second class 1 with 5. Where they
    # overlap, the means are 1.5 and 2.5.
    answers = iter([torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0])])
    network = Function(lambda image: next(answers).view(1, 2, 1, 1).expand(1, 2, *image.shape[2:]))
    protocol = Protocol(mode="slide", scale=None, crop=(4, 4), stride=(2, 2))
    found = predict(network, picture(4, 6), protocol)
    np.testing.assert_array_equal(found, np.repeat([[0, 0, 1, 1, 1, 1]], 4, axis=0))


@pytest.mark.parametrize("last", [False, True])
def test_probabilities_not_logits_are_averaged_over_views(last):
    # Three views say class 0 by 1, one says class 1 by 6. By logits class 1 would win, 6 to 3; by
    # probabilities class 0 does, 3 * 0.731 + 0.002 = 2.20 to 1.80.
    answers = [torch.tensor([1.0, 0.0])] * 3
    answers.insert(3 if last else 0, torch.tensor([0.0, 6.0]))
    queue = iter(answers)
    network = Function(lambda image: next(queue).view(1, 2, 1, 1))
    protocol = Protocol(scale=None, ratios=(1.0, 2.0), flip=True)
    assert (predict(network, picture(4, 6), protocol) == 0).all()


def test_a_mirrored_answer_is_mirrored_back():
    # The network marks the brighter half of what it sees.
    network = Function(lambda image: torch.cat([-image[:, :1], image[:, :1]], 1))
    image = np.zeros((6, 10, 3), np.uint8)
    image[:, 7:] = 255
    protocol = Protocol(scale=None, flip=True)
    np.testing.assert_array_equal(predict(network, image, protocol), (image[..., 0] > 0).astype(np.uint8))
    upright = dataclasses.replace(protocol, flip_direction="vertical")
    np.testing.assert_array_equal(
        predict(network, image.transpose(1, 0, 2), upright), (image[..., 0] > 0).astype(np.uint8).T
    )


def test_many_classes_get_a_wider_type():
    logits = torch.zeros(300, 2, 2)
    logits[299] = 1.0
    found = predict(always(logits), picture(5, 7), Protocol(scale=None))
    assert found.dtype == np.uint16 and (found == 299).all()
    assert predict(always(logits[:256]), picture(5, 7), Protocol(scale=None)).dtype == np.uint8


def test_one_class_and_one_pixel_are_possible():
    assert predict(always(torch.zeros(1, 1, 1)), picture(1, 1), Protocol(scale=None)).tolist() == [[0]]


def test_a_file_is_read_as_published(tmp_path):
    image = picture(40, 60)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    protocol = PROTOCOLS["whole"]
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(predict(NETWORK, path, protocol), predict(NETWORK, image, protocol))


def test_the_model_is_left_as_it_was():
    network = TinyNetwork("tiny59/", 59).train()
    predict(network, picture(30, 40), Protocol(scale=None))
    assert network.training and all(parameter.grad is None for parameter in network.parameters())


def test_one_network_serves_many_images():
    network = Network(NETWORK)
    for seed in range(2):
        image = picture(40 + seed, 60, seed)
        found = predict_with(network, image, PROTOCOLS["whole"])
        np.testing.assert_array_equal(found, predict(NETWORK, image, PROTOCOLS["whole"]))


def test_public_names_lead_here():
    assert segzoo.predict is predict


def test_low_precision_stays_in_the_network():
    image, protocol = picture(75, 110), PROTOCOLS["multi-scale and flip"]
    found = predict(NETWORK, image, protocol, dtype="bf16")
    agreement = (found == predict(NETWORK, image, protocol)).mean()
    assert 0.9 < agreement < 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # Logits of float32 stay exact under an autocast of the caller's.
        logits = torch.zeros(2, 4, 4)
        logits[1] = 1e-4
        assert (predict(always(logits + 1.0), picture(9, 9), Protocol(scale=None)) == 1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_are_refused_with_the_file(value, tmp_path):
    logits = torch.zeros(3, 4, 4)
    logits[1, 2, 3] = value
    cv2.imwrite(str(tmp_path / "a.png"), picture(8, 8))
    with pytest.raises(SegzooError, match=r"a\.png: the model's logits are not finite"):
        predict(always(logits), tmp_path / "a.png", Protocol(scale=None))


@pytest.mark.parametrize("answer", [lambda image: (image,), lambda image: image[0], lambda image: image[:, :0]])
def test_what_is_no_batch_of_logits_is_refused(answer):
    with pytest.raises(UsageError, match="must give logits"):
        predict(Function(answer), picture(8, 8), Protocol(scale=None))


def test_a_crop_below_the_networks_minimum_is_one_clear_line():
    network = nn.Conv2d(3, 2, 7)
    protocol = Protocol(mode="slide", scale=None, crop=(4, 4), stride=(4, 4))
    with pytest.raises(UsageError, match="cannot run an input of 1x3x4x4"):
        predict(network, picture(8, 8), protocol)


def test_a_wrong_batch_size_and_a_wrong_image_are_refused(tmp_path):
    with pytest.raises(UsageError, match="batch size 0"):
        predict(NETWORK, picture(8, 8), Protocol(), batch_size=0)
    with pytest.raises(DatasetError, match="no pixels"):
        predict(NETWORK, np.zeros((0, 5, 3), np.uint8), Protocol())
    with pytest.raises(DatasetError, match=r"missing\.png"):
        predict(NETWORK, tmp_path / "missing.png", Protocol())
