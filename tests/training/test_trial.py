"""A step on the meta device: how much the gradient needs, by hand and by measurement, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from msgspec import structs
from torch import nn

import segzoo
from segzoo.errors import SegzooError, UsageError
from segzoo.registry import entry, names
from segzoo.training import pretraining, trial
from segzoo.training.classification import ClassificationLoss, Classifier
from segzoo.training.memory_saving import checkpoint_activations
from segzoo.training.named import recipe_for
from segzoo.training.trial import check_step, classification_step, kept_bytes, segmentation_step
from segzoo.zoo.schema import Recipe

CPU = torch.device("cpu")


def recipe(crop: tuple[int, int] = (32, 48), model: str = "tiny"):
    return recipe_for(model, crop=crop)


def kept(model: nn.Module, own: Recipe, images: int) -> int:
    return kept_bytes(model, segmentation_step(model, own), images)


def check(model: nn.Module, own: Recipe, **words) -> None:
    check_step(model, segmentation_step(model, own), own, CPU, size_option="--crop", **words)


def test_what_two_convolutions_keep_counted_by_hand():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    pixels = 2 * 32 * 48
    # The image and the first's rectified answer as the convolutions' inputs, the logarithms of the probabilities,
    # the labels of 8 bytes, and the number by which the loss was divided.
    assert kept(model, recipe(), 2) == 4 * pixels * (3 + 8 + 4) + 8 * pixels + 4


MEASURE = """
import torch
from segzoo.training.named import recipe_for
from segzoo.training.segmentation import outputs_of
from segzoo.training.losses import weighted_losses
import segzoo
model = segzoo.create_model("nat-pico", num_classes=11).train()
def step(count):
    image, label = torch.rand(count, 3, 256, 256), torch.zeros(count, 256, 256, dtype=torch.int64)
    return sum(weighted_losses(outputs_of(model)(image), label, {"logits": 1.0}, ignore=255).values())
def resident_pages():
    return int(open("/proc/self/statm").read().split()[1])
step(2)
before = resident_pages()
loss = step(8)
print(4096 * (resident_pages() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory in /proc")
def test_what_a_real_step_keeps_is_at_least_what_is_counted_and_not_twice_as_much():
    # Freed memory goes back to the system at once.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-c", MEASURE]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    model = segzoo.create_model("nat-pico", num_classes=11, device="meta")
    counted = kept(model, recipe((256, 256), "nat-pico"), 8)
    assert 0.98 * counted < int(answer) < 1.5 * counted, (counted, answer)


def test_the_need_grows_with_images_and_pixels_and_shrinks_where_blocks_run_again():
    model = segzoo.create_model("tiny", device="meta")
    once = kept(model, recipe((64, 96)), 2)
    assert kept(model, recipe((64, 96)), 4) == pytest.approx(2 * once, rel=0.02)
    assert kept(model, recipe((128, 192)), 2) == pytest.approx(4 * once, rel=0.05)
    checkpoint_activations(model)
    assert kept(model, recipe((64, 96)), 2) < 0.9 * once


def test_attention_is_counted_without_its_scores():
    # On a map of four times the pixels the scores would be sixteen times as many.
    model = segzoo.create_model("segformer-b0", device="meta")
    once, four = (kept(model, recipe((side, side), "segformer-b0"), 1) for side in (512, 1024))
    assert four == pytest.approx(4 * once, rel=0.01)


def test_a_step_beyond_the_memory_is_refused_and_the_same_in_halves_is_not(monkeypatch):
    model = segzoo.create_model("tiny", device="meta")
    needed = kept(model, recipe(), 4)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(trial, "memory_bytes", lambda device: needed + 4 * weights - 1)
    words = {"images": 4, "synced": False}
    with pytest.raises(SegzooError, match=r"a step on 4 images of 32x48 needs 0\.0 GiB or more .*--per-device"):
        check(model, recipe(), dtype="fp32", **words)
    check(model, recipe(), dtype="bf16", **words)
    monkeypatch.setattr(trial, "memory_bytes", lambda device: needed + 4 * weights)
    check(model, recipe(), dtype="fp32", **words)


def test_one_image_for_a_batch_norm_of_a_single_value():
    model = segzoo.create_model("tiny", device="meta")
    with pytest.raises(UsageError, match="a single value of 1 image; give each device 2 images"):
        check(model, recipe(), images=1, dtype="fp32", synced=False)
    check(model, recipe(), images=1, dtype="fp32", synced=True)


def test_a_crop_that_a_model_does_not_take():
    model = segzoo.create_model("cae-base-1600e", device="meta")
    with pytest.raises(UsageError, match="512x512 pixels, not 480x480"):
        check(model, recipe((480, 480), "cae-base-1600e"), images=2, dtype="fp32", synced=False)


def test_a_loss_for_an_output_that_the_model_does_not_have():
    model = segzoo.create_model("tiny", device="meta")
    other = structs.replace(recipe(), losses={"logits": 1.0, "aux_logits": 0.4})
    with pytest.raises(UsageError, match="a loss for 'aux_logits', but the model gives logits"):
        check(model, other, images=2, dtype="fp32", synced=False)


def test_every_kind_of_backbone_takes_a_step_without_numbers():
    smallest = {entry(name).architecture.backbone["type"]: name for name in reversed(names())}
    for name in smallest.values():
        model = segzoo.create_model(name, device="meta")
        own = recipe_for(name)
        crop = (448, 448) if name == "segformer-nota-window" else own.crop
        assert kept(model, structs.replace(own, crop=crop), 2) > 2**20, name


@pytest.mark.parametrize(
    ("mixing", "label_bytes"),
    # A number of 8 bytes for each of 4 images, and how many there were; or 5 shares for each.
    [({"smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0}, 4 * 8 + 4), ({"mixup": 0.8, "cutmix": 1.0}, 4 * 5 * 4)],
)
def test_what_a_classifier_keeps_counted_by_hand(mixing, label_bytes):
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    step = classification_step(ClassificationLoss(model, 5, **{"smoothing": 0.1, **mixing}), recipe((32, 32)))
    # The images and the means as inputs of convolution and linear layer, and the logarithms of the probabilities.
    assert kept_bytes(model, step, 4) == 4 * 4 * (3 * 32 * 32 + 8 + 5) + label_bytes


def test_every_kind_of_backbone_takes_a_step_as_a_classifier():
    smallest = {entry(name).architecture.backbone["type"]: name for name in reversed(names())}
    for name in smallest.values():
        with torch.device("meta"):
            model = Classifier(*pretraining._backbone(name, device="meta"), 3)
        side = {"segformer-nota-window": 448}.get(name, recipe_for(name).crop[0])
        own = pretraining.pretraining_recipe(side=side, iterations=1, batch_size=2, lr=0.01, warmup=0)
        step = classification_step(ClassificationLoss(model, 3, smoothing=0.1, mixup=0.8, cutmix=1.0), own)
        assert kept_bytes(model, step, 2) > 2**20, name
