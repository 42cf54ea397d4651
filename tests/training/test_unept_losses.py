"""UN-EPT's losses against recorded values and gradients of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fill import fill_array
from oracle_files import oracle

from segzoo.errors import UsageError
from segzoo.training.unept_losses import (
    balanced_cross_entropy,
    class_weights,
    direction_target,
    mask_target,
    refinement_sources,
    unept_losses,
)

WEIGHTS = {"logits": 0.8, "mask_logits": 5.0, "direction_logits": 0.6, "refined_logits": 1.0}
RECORDED = {"logits": "ce_seg", "mask_logits": "mask_loss", "direction_logits": "direction_loss"}
RECORDED |= {"refined_logits": "ce_refine"}
CASES = ("random", "blobs", "no_boundary_predicted")
SIZE = (2, 150, 96, 96)


def facts_of(case: str) -> dict[str, torch.Tensor]:
    recorded = np.load(oracle("unept-res50/losses.npz"))
    facts = {key.partition(".")[2]: torch.from_numpy(recorded[key]) for key in recorded if key.startswith(f"{case}.")}
    noise = fill_array(f"unept-loss.{case}.seg_logit", SIZE) * np.float32(np.sqrt(150 * 96 * 96))
    return {**facts, "seg_logit": torch.from_numpy(noise)}


def outputs_of(facts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {"logits": "seg_logit", "mask_logits": "mask_map", "direction_logits": "dir_map"}
    return {name: facts[key].clone().requires_grad_() for name, key in names.items()}


def enlarged(facts: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return torch.nn.functional.interpolate(facts[name], size=(96, 96), mode="bilinear", align_corners=True)


def losses_of(facts: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    label = facts["seg_label"].long()
    return unept_losses(outputs, label, facts["distance_map"], facts["angle_map"], WEIGHTS, ignore=255)


@pytest.mark.parametrize("case", CASES)
def test_every_term_equals_the_recorded(case):
    facts = facts_of(case)
    losses = losses_of(facts, outputs_of(facts))
    for name, key in RECORDED.items():
        expected = float(facts[key])
        if case == "no_boundary_predicted" and name == "direction_logits":
            # The original divides 0 by 0 here.
            assert np.isnan(expected)
            expected = 0.0
        assert losses[name].item() / WEIGHTS[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", ["random", "blobs"])
def test_gradients_of_the_total_equal_the_recorded(case):
    facts = facts_of(case)
    outputs = outputs_of(facts)
    total = sum(losses_of(facts, outputs).values())
    assert total.item() == pytest.approx(float(facts["loss_seg_total"]), rel=1e-5)
    total.backward()
    gradient = outputs["logits"].grad
    for measured, key in (
        (gradient[:, ::30, ::8, ::8], "grad_seg_logit_sub"),
        (outputs["mask_logits"].grad, "grad_mask_map"),
        (outputs["direction_logits"].grad, "grad_dir_map"),
    ):
        assert (measured - facts[key]).abs().max() <= 1e-4 * facts[key].std()
    assert gradient.double().norm().item() == pytest.approx(float(facts["grad_seg_logit_norm"]), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_targets_and_moved_predictions_equal_the_recorded(case):
    facts = facts_of(case)
    mask, direction = enlarged(facts, "mask_map"), enlarged(facts, "dir_map")
    assert torch.equal(mask_target(facts["distance_map"]), facts["gt_mask"].long())
    target = direction_target(facts["angle_map"], mask)
    # Pixels whose predicted probability is 0.5 but for rounding may go either way.
    decided = (mask.softmax(1)[:, 1] - 0.5).abs() > 1e-6
    assert decided.float().mean() > 0.999
    assert torch.equal(target[decided], facts["gt_direction"].long()[decided])
    torch.testing.assert_close(class_weights(target, 8)[target.unique()[1:]], _present(facts, target))
    torch.testing.assert_close(class_weights(mask_target(facts["distance_map"]), 2), facts["mask_weights"].float())
    sources = refinement_sources(mask, direction)
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    row = (rows + facts["offset"][..., 0]).clamp(0, 95)
    column = (columns + facts["offset"][..., 1]).clamp(0, 95)
    assert torch.equal(sources, (row * 96 + column).flatten(1))
    moved = facts["seg_logit"].flatten(2).gather(2, sources[:, None].expand(-1, 150, -1)).view(SIZE)
    torch.testing.assert_close(moved[:, ::30, ::8, ::8], facts["refine_map_sub"], rtol=1e-4, atol=1e-4)


def _present(facts: dict[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    return facts["direction_weights"].float()[target.unique()[1:]]


def test_a_batch_without_predicted_boundary_has_gradients_of_zero_and_none_that_is_no_number():
    facts = facts_of("no_boundary_predicted")
    outputs = outputs_of(facts)
    sum(losses_of(facts, outputs).values()).backward()
    assert not outputs["direction_logits"].grad.any()
    assert all(torch.isfinite(output.grad).all() for output in outputs.values())
    assert outputs["mask_logits"].grad.any()


def test_a_target_of_one_class_has_no_weight_and_so_no_loss():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = balanced_cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize(
    ("angle", "expected"), [(-180, 0), (-158, 0), (-157, 1), (-22, 4), (0, 4), (22, 4), (90, 6), (157, 7), (158, 0)]
)
def test_directions_are_eight_classes_of_45_degrees(angle, expected):
    predicted = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    for value in (angle, 255):
        target = direction_target(torch.tensor([[[value]]]), predicted)
        assert target.item() == (expected if value == angle else 0)
    assert direction_target(torch.tensor([[[angle]]]), -predicted).item() == -1


def test_only_the_terms_that_are_asked_for_are_given_and_others_refused():
    outputs = {"logits": torch.zeros(1, 3, 2, 2), "mask_logits": torch.zeros(1, 2, 2, 2)}
    label = torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(UsageError, match="gives no direction_logits"):
        unept_losses(outputs, label, label, label, WEIGHTS, ignore=255)
    outputs["direction_logits"] = torch.zeros(1, 8, 2, 2)
    assert set(unept_losses(outputs, label, label, label, {"logits": 2.0}, ignore=255)) == {"logits"}
    with pytest.raises(UsageError, match="no loss 'aux_logits'"):
        unept_losses(outputs, label, label, label, {"aux_logits": 1.0}, ignore=255)
