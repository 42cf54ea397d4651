"""The operators on a GPU that is not there: results are where the inputs are, and two devices are refused."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from segzoo import kernels
from segzoo.kernels import Taps

OPERATORS = torch.ops.segzoo


@pytest.fixture(autouse=True)
def _fake():
    with FakeTensorMode():
        yield


def test_neighborhood_attention_in_half_precision_has_its_sums_in_float32():
    query, key, value = torch.empty(2, 9, 8, 3, 2, 16, device="cuda", dtype=torch.bfloat16).unbind(3)
    bias = torch.empty(2, 5, 5, device="cuda", requires_grad=True)
    output = kernels.neighborhood_attention_2d(query, key, value, bias, kernel_size=3, dilation=2)
    assert output.is_cuda and output.dtype == torch.bfloat16 and output.requires_grad
    _, sums = OPERATORS.neighborhood_attention_2d(query, key, value, bias, 3, 2, 0.25)
    gradients = OPERATORS.neighborhood_attention_2d_backward(output, query, key, value, bias, output, sums, 3, 2, 0.25)
    assert all(gradient.is_cuda for gradient in (sums, *gradients))
    assert sums.dtype == gradients[3].dtype == torch.float32 and gradients[0].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="rpb must be on the device of q, cuda:0, not on cpu"):
        kernels.neighborhood_attention_2d(query, key, value, torch.empty(2, 5, 5), kernel_size=3)


def test_deformable_attention_and_its_backward():
    value = torch.empty(1, 14, 2, 8, device="cuda", dtype=torch.float16, requires_grad=True)
    locations, weights = torch.empty(1, 5, 2, 2, 3, 2, device="cuda"), torch.empty(1, 5, 2, 2, 3, device="cuda")
    output = kernels.deformable_attention(value, [(3, 4), (1, 2)], locations, weights)
    assert output.is_cuda and output.dtype == torch.float16 and output.requires_grad
    gradients = OPERATORS.deformable_attention_backward(output, value, [3, 4, 1, 2], locations, weights)
    assert all(gradient.is_cuda for gradient in gradients)
    with pytest.raises(ValueError, match="sampling_locations must be on the device of value"):
        kernels.deformable_attention(value, [(3, 4), (1, 2)], locations.cpu(), weights)


def test_the_evaluation_tail_counts_where_the_logits_are():
    taps = Taps(sources=torch.empty(4, 1, dtype=torch.int32, device="cuda"), weights=torch.empty(4, 1, device="cuda"))
    target = torch.empty(4, 4, dtype=torch.uint8, device="cuda")
    logits = [torch.empty(5, 4, 4, device="cuda")]
    labels, counts = kernels.segmentation_tail(logits, [taps], [taps], target=target)
    assert labels.is_cuda and counts.is_cuda and labels.dtype == torch.uint8 and counts.shape == (6, 6)
    with pytest.raises(ValueError, match="target is on cpu, logits are on cuda"):
        kernels.segmentation_tail(logits, [taps], [taps], target=target.cpu())
