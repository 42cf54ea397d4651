"""Models on a GPU that is not there: fake tensors know their device, and an operator that meets two of them says so."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import segzoo

_SIDES = {
    "nat-pico": 64,
    "dinats-tiny": 64,
    "recnext-m3": 64,
    "recnext-a3": 64,
    "swin-tiny": 64,
    "convnext-tiny": 64,
    "cae-base-300e": 512,
    "segformer-b0": 64,
    "unept-res50": 480,
    "unept-deit": 480,
    "segnext-t": 64,
    "segformer-nota-lsra": 64,
    "segformer-nota-recursive": 64,
    "segformer-nota-ea": 64,
    "segformer-nota-lsrea-ham": 64,
    "segformer-nota-final": 64,
    "segformer-nota-hybrid": 64,
    "segformer-nota-mscan-mlp": 64,
    "segformer-nota-window": 224,
    "segformer-b2-lawin": 64,
    "segformer-boostformer": 64,
}
"""One model of each kind, and the least side that it takes."""


@pytest.mark.parametrize("name", _SIDES)
def test_every_kind_of_model_makes_its_tensors_where_its_input_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    model = segzoo.create_model(name, device="meta")
    # Its parameters count as fake only once they have been moved.
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cuda")
        image = torch.empty(2, 3, _SIDES[name], _SIDES[name], device="cuda")
        with torch.inference_mode():
            assert model(image).is_cuda
        model.train()
        outputs = model.forward_outputs(image)
        assert all(output.is_cuda for output in outputs.values() if isinstance(output, torch.Tensor))
