"""Losses against values and gradients that mmsegmentation gave."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from oracle_files import oracle

from segzoo.errors import UsageError
from segzoo.training.losses import pixel_accuracy, pixel_cross_entropy, weighted_losses
from segzoo.training.segmentation import rarity_weights


@pytest.fixture
def facts():
    arrays = np.load(oracle("protocol/loss/loss.npz"))
    cases = json.loads(oracle("protocol/loss/loss.json").read_text())["cases"]
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}, cases


@pytest.mark.parametrize("case", ["default", "class_weight"])
def test_value_and_gradient_are_the_originals(facts, case):
    arrays, cases = facts
    logits = arrays["logits"].requires_grad_()
    weights = arrays["class_weight"] if case == "class_weight" else None
    loss = pixel_cross_entropy(logits, arrays["label"], ignore=255, class_weights=weights)
    loss.backward()
    assert loss.item() == pytest.approx(cases[case]["value"], rel=1e-6)
    assert float(logits.grad.abs().sum()) == pytest.approx(cases[case]["grad_abs_sum"], rel=1e-6)


def test_a_label_without_any_class_gives_zero_and_no_gradient(facts):
    arrays, _ = facts
    logits = arrays["logits"].requires_grad_()
    loss = pixel_cross_entropy(logits, torch.full_like(arrays["label"], 255), ignore=255)
    loss.backward()
    assert loss.item() == 0.0 and float(logits.grad.abs().max()) == 0.0


def test_main_and_auxiliary_loss_are_upsampled_weighted_and_summed(facts):
    arrays, cases = facts
    outputs = {"logits": arrays["low"], "aux_logits": arrays["low2"]}
    losses = weighted_losses(outputs, arrays["label"], {"logits": 1.0, "aux_logits": 0.4}, ignore=255)
    recorded = cases["segmentor"]
    assert float(losses["logits"]) == pytest.approx(recorded["decode.loss_ce"], rel=1e-6)
    assert float(losses["aux_logits"]) == pytest.approx(recorded["aux.loss_ce"], rel=1e-6)
    assert float(sum(losses.values())) == pytest.approx(recorded["loss"], rel=1e-6)


def test_accuracy_counts_labelled_pixels_only(facts):
    arrays, cases = facts
    accuracy = pixel_accuracy(arrays["logits"], arrays["label"], ignore=255)
    assert float(accuracy) == pytest.approx(cases["accuracy_ignore_255"], rel=1e-6)


def test_a_loss_for_an_output_that_is_not_there_names_it():
    logits = torch.zeros(1, 2, 4, 4)
    with pytest.raises(UsageError, match="aux_logits"):
        weighted_losses({"logits": logits}, torch.zeros(1, 4, 4).long(), {"logits": 1.0, "aux_logits": 0.4}, ignore=255)


def test_rare_classes_weigh_more_by_the_fourth_root_of_their_share():
    class Labels:
        """One label of 32 pixels: 16 of class 0, 15 ignored, 1 of class 1, none of class 2."""

        num_classes = 3

        def label(self, index):
            return np.array([0] * 16 + [255] * 15 + [1], np.uint8).reshape(4, 8)

    weights = rarity_weights(Labels(), 1)
    # Counts 16, 1, 0 have mean 17 / 3; what never comes counts as one pixel.
    assert weights.tolist() == pytest.approx([(17 / 48) ** 0.25, (17 / 3) ** 0.25, (17 / 3) ** 0.25], rel=1e-6)
