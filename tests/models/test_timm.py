"""Any timm backbone under any head, by name alone."""

from __future__ import annotations

import warnings

import pytest
import torch

import segzoo
from segzoo import registry
from segzoo.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("timm/convnext_atto+upernet", 4),
        ("timm/resnet18+fcn", 32),
        ("timm/resnet18+fpn", 4),
        ("timm/swin_tiny_patch4_window7_224+upernet", 4),
        ("timm/vit_tiny_patch16_224+upernet", 16),
    ],
)
def test_logits_have_the_heads_own_resolution_for_sizes_that_are_no_square(name, stride):
    model = segzoo.create_model(name, num_classes=5)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 64 // stride, 96 // stride)


def test_the_backbone_is_the_same_as_timms_own():
    model = segzoo.create_model("timm/convnext_atto+upernet", num_classes=5)
    own = timm.create_model("convnext_atto", features_only=True).eval()
    own.load_state_dict({key.removeprefix("model."): value for key, value in model.backbone.state_dict().items()})
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for mine, theirs in zip(model.backbone(image), own(image), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_timm_name_works_wherever_a_name_does():
    name = "timm/resnet18+upernet"
    assert registry.select([name, "nat-tiny"]) == [name, "nat-tiny"]
    assert registry.get_protocol(name) == registry.get_protocol("ade20k-whole")


def test_an_unknown_backbone_or_head_is_answered_with_near_names():
    with pytest.raises(UsageError, match="timm has no model 'resnet5'; did you mean"):
        segzoo.create_model("timm/resnet5+upernet")
    with pytest.raises(UsageError, match="did you mean 'upernet'"):
        segzoo.create_model("timm/resnet50+uppernet")
