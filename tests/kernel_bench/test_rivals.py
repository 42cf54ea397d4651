"""The rivals compute what they are said to: else a ratio to them would say nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segzoo import kernels
from segzoo.errors import UnavailableError
from segzoo.kernel_bench import neighborhood, network, rivals, tail
from segzoo.kernels import reference

HEIGHT, WIDTH, HEADS = 9, 11, 2


@pytest.fixture(autouse=True)
def _native() -> None:
    if kernels.load() != "native":
        pytest.skip(f"no compiled kernel here: {kernels.notes()}")


def _inputs(head_dim: int, kernel_size: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    fused = torch.randn(2, HEIGHT, WIDTH, 3, HEADS, head_dim, generator=generator)
    side = 2 * kernel_size - 1
    return *fused.unbind(3), torch.randn(HEADS, side, side, generator=generator)


@pytest.mark.parametrize("head_dim", [16, 32, 64])
def test_pairwise_attention_is_neighborhood_attention(head_dim: int) -> None:
    tensors = _inputs(head_dim, 5)
    attend = rivals.neighborhood_attention(*tensors, kernel_size=5, scale=0.3)
    expected = reference.forward(*tensors, 5, 1, 0.3)[0].permute(0, 3, 1, 2, 4)
    torch.testing.assert_close(attend(), expected, rtol=0, atol=1e-5)


def test_gathered_attention_is_neighborhood_attention_and_so_are_its_gradients() -> None:
    results = []
    for attend in (neighborhood.gathered_attention, neighborhood._attend):
        leaves = [tensor.clone().requires_grad_() for tensor in _inputs(neighborhood.HEAD_DIM, neighborhood.KERNEL)]
        output = attend(*leaves)
        results.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
    for rival, ours in zip(*results, strict=True):
        torch.testing.assert_close(rival, ours, rtol=1e-4, atol=1e-4)


def test_a_head_that_fills_no_vectors_is_refused_by_name() -> None:
    with pytest.raises(UnavailableError, match="heads of 20"):
        rivals.neighborhood_attention(*_inputs(20, 3), kernel_size=3, scale=1.0)


def test_multiply_adds_are_as_many_as_asked_for() -> None:
    assert 1e6 <= rivals.multiply_add(1e6)() < 1.01e6


def test_a_copy_moves_what_it_says() -> None:
    copy = rivals.copy()
    assert copy.bytes_moved == 2 * 256 * 2**20
    copy.run()


@pytest.mark.parametrize("views", ["one_view", "twelve_views"])
def test_the_published_tail_counts_the_same_pixels(monkeypatch: pytest.MonkeyPatch, views: str) -> None:
    for name, value in {"CLASSES": 7, "HEIGHT": 48, "WIDTH": 64, "_SCALES": (0.5, 1.0)}.items():
        monkeypatch.setattr(tail, name, value)
    smooth, random = getattr(tail, f"{views}_contests")()
    assert random.case == f"{smooth.case}, random logits"
    found = []
    for contest in (smooth, random):
        ours, rival = contest.ours(), contest.rival()
        counted = ours[:7, :7].flatten()  # labels down, predictions across, as the rival's pairs
        assert counted.sum() == rival.sum() == 48 * 64
        assert (counted - rival).abs().sum() <= 4  # near-ties
        found.append(rival)
    assert not torch.equal(*found)


def test_the_reference_operator_takes_over_in_a_whole_network() -> None:
    query, key, value, bias = _inputs(16, 3)
    with network._ReferenceOperator():
        output = kernels.neighborhood_attention_2d(query, key, value, bias, kernel_size=3)
    assert torch.equal(output, reference.forward(query, key, value, bias, 3, 1, 0.25)[0])
