"""The operator as PyTorch sees it: values, gradients, fake tensors, compilation, FLOPs, errors."""

from __future__ import annotations

import pytest
import torch
from neighborhood_cases import (
    BACKENDS,
    brute_force,
    random_inputs,
    relative_error,
    require_native,
    run_backward,
    run_forward,
    window,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from segzoo.kernels import neighborhood_attention_2d, reference

FORWARD = torch.ops.segzoo.neighborhood_attention_2d
BACKWARD = torch.ops.segzoo.neighborhood_attention_2d_backward


def test_window_is_shifted_inwards_at_borders_and_keeps_to_the_residue_class() -> None:
    # length 7, kernel 3, dilation 2: the classes are 0 2 4 6 and 1 3 5
    rows, bias = reference.axis_neighbours(7, 3, 2)
    assert rows.tolist() == [[0, 2, 4], [1, 3, 5], [0, 2, 4], [1, 3, 5], [2, 4, 6], [1, 3, 5], [2, 4, 6]]
    assert bias.tolist() == [[2, 3, 4], [2, 3, 4], [1, 2, 3], [1, 2, 3], [1, 2, 3], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(("length", "kernel", "dilation"), [(3, 3, 1), (14, 5, 2), (22, 7, 3), (29, 3, 8)])
def test_window_of_the_reference_is_the_nearest_run_of_the_class(length: int, kernel: int, dilation: int) -> None:
    expected = [window(position, length, kernel, dilation) for position in range(length)]
    assert reference.axis_neighbours(length, kernel, dilation)[0].tolist() == expected


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), [(6, 9, 3, 2), (5, 11, 5, 1), (7, 23, 3, 1)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_output_is_that_of_a_loop_over_queries(
    backend: str, height: int, width: int, kernel: int, dilation: int, with_bias: bool
) -> None:
    q, k, v, rpb, _ = random_inputs(2, height, width, 2, 3, kernel, torch.float64)
    bias = rpb if with_bias else None
    result = run_forward(backend, q, k, v, bias, kernel, dilation, 0.7)[0]
    torch.testing.assert_close(result, brute_force(q, k, v, bias, kernel, dilation, 0.7), rtol=0, atol=1e-13)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backward_is_the_derivative_that_autograd_finds_for_the_reference(backend: str, with_bias: bool) -> None:
    q, k, v, rpb, grad = random_inputs(2, 8, 11, 3, 5, 3, torch.float64)
    leaves = [tensor.clone().requires_grad_() for tensor in (q, k, v, rpb)]
    bias = leaves[3] if with_bias else None
    output = reference.forward(leaves[0], leaves[1], leaves[2], bias, 3, 2, 0.4)[0]
    expected = torch.autograd.grad(output, leaves if with_bias else leaves[:3], grad)
    result = run_backward(backend, grad, q, k, v, rpb if with_bias else None, 3, 2, 0.4)
    for value, truth in zip(result, expected, strict=False):
        torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-12)


def test_gradcheck_passes_in_float64() -> None:
    require_native()
    q, k, v, rpb, _ = random_inputs(1, 6, 7, 2, 3, 3, torch.float64)
    leaves = [tensor.clone().requires_grad_() for tensor in (q, k, v, rpb)]
    assert torch.autograd.gradcheck(
        lambda *inputs: neighborhood_attention_2d(*inputs, kernel_size=3, dilation=2), leaves
    )


def _views(kind: str) -> tuple[Tensor, ...]:
    """q, k, v of [1, 7, 9, 2, 5] in various memory layouts."""
    fused = torch.randn(1, 7, 9, 3, 2, 5, dtype=torch.float64)
    if kind == "fused":
        return fused.unbind(3)
    if kind == "transposed":
        return tuple(torch.randn(1, 5, 2, 9, 7, dtype=torch.float64).permute(0, 4, 3, 2, 1) for _ in range(3))
    return tuple(torch.randn(2, 14, 9, 2, 15, dtype=torch.float64)[1:, ::2, :, :, 1::3] for _ in range(3))


# opcheck itself looks at .grad of the tensors it has made from ours
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("kind", ["fused", "transposed", "sliced"])
def test_opcheck_passes_for_strided_inputs(kind: str) -> None:
    require_native()
    q, k, v = (tensor.detach().requires_grad_() for tensor in _views(kind))
    rpb = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(FORWARD, (q, k, v, rpb, 3, 2, 0.5))
    torch.library.opcheck(FORWARD, (q, k, v, None, 3, 1, 0.5))
    with torch.no_grad():
        saved = FORWARD(q, k, v, rpb, 3, 2, 0.5)
        plain = [tensor.detach() for tensor in (q, k, v, rpb)]
        torch.library.opcheck(BACKWARD, (torch.randn(saved[0].shape).double(), *plain, *saved, 3, 2, 0.5))


@pytest.mark.parametrize("kind", ["transposed", "sliced"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_change_the_result(backend: str, kind: str) -> None:
    views = _views(kind)
    dense = [tensor.contiguous() for tensor in views]
    rpb, grad = torch.randn(2, 5, 5).double(), torch.randn(1, 5, 2, 9, 7).double().permute(0, 4, 3, 2, 1)
    for value, truth in zip(
        run_backward(backend, grad, *views, rpb, 3, 2, 0.5),
        run_backward(backend, grad.contiguous(), *dense, rpb, 3, 2, 0.5),
        strict=True,
    ):
        assert value.is_contiguous()
        assert torch.equal(value, truth)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # inductor's own, in PyTorch 2.11
@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)], ids=["aot_eager", "inductor"]
)
def test_compiles_without_a_graph_break_forward_and_backward(backend: str) -> None:
    require_native()

    def attend(fused: Tensor, table: Tensor) -> Tensor:
        q, k, v = (2 * fused).unbind(3)
        return neighborhood_attention_2d(q, k, v, table, kernel_size=3, dilation=2).relu()

    q, k, v, rpb, _ = random_inputs(1, 8, 7, 2, 4, 3)
    gradients = []
    for function in (attend, torch.compile(attend, fullgraph=True, backend=backend)):
        leaves = torch.stack([q, k, v], dim=3).requires_grad_(), rpb.clone().requires_grad_()
        function(*leaves).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_flops_are_two_products_of_k_squared_times_head_dim_for_each_token_and_head() -> None:
    q, k, v = torch.empty(2, 10, 12, 3, 3, 8, device="meta", requires_grad=True).unbind(3)
    with FlopCounterMode(display=False) as counter:
        output = neighborhood_attention_2d(q, k, v, kernel_size=5, dilation=2)
    one_product = 2 * (2 * 10 * 12) * 3 * 25 * 8
    assert output.shape == (2, 10, 12, 3, 8)
    assert counter.get_total_flops() == 2 * one_product
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    assert counter.get_total_flops() == 5 * one_product


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_exact_as_its_last_digit_and_returned_in_half(dtype: torch.dtype) -> None:
    require_native()
    q, k, v, rpb, grad = random_inputs(1, 9, 13, 2, 16, 5, dtype)
    wide = [tensor.double() for tensor in (q, k, v, rpb)]
    leaves = [tensor.clone().requires_grad_() for tensor in (q, k, v, rpb)]
    output = neighborhood_attention_2d(*leaves, kernel_size=5)
    output.backward(grad)
    assert output.dtype == dtype
    last_digit = torch.finfo(dtype).eps
    truth = reference.forward(*wide, 5, 1, 0.25)[0]
    assert relative_error(output, truth) < last_digit
    for leaf, exact in zip(leaves, run_backward("reference", grad.double(), *wide, 5, 1, 0.25), strict=True):
        assert leaf.grad is not None and leaf.grad.dtype == dtype
        assert relative_error(leaf.grad, exact) < 2 * last_digit


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_takes_q_k_and_v_to_its_dtype_and_leaves_the_bias(low: torch.dtype) -> None:
    q, k, v, rpb, _ = random_inputs(1, 7, 8, 2, 4, 3)
    expected = neighborhood_attention_2d(q.to(low), k.to(low), v.to(low), rpb, kernel_size=3)
    with torch.autocast("cpu", low):
        output = neighborhood_attention_2d(q, k, v, rpb, kernel_size=3)
        twice = neighborhood_attention_2d(q.double(), k.double(), v.double(), rpb, kernel_size=3)
    assert output.dtype == low and torch.equal(output, expected)
    assert twice.dtype == torch.float64  # as of a matrix product, whose float64 autocast leaves alone


def test_compiles_under_autocast_without_a_graph_break() -> None:
    require_native()
    q, k, v, rpb, _ = random_inputs(1, 8, 7, 2, 4, 3)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return neighborhood_attention_2d(q, k, v, rpb, kernel_size=3)

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, k, v), attend(q, k, v))


class _Attend(torch.nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, rpb: Tensor) -> Tensor:
        return neighborhood_attention_2d(q, k, v, rpb, kernel_size=3, dilation=2)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch 2.11's, of a class of its own
def test_an_exported_program_holds_the_operator_and_the_reference_decomposes_it() -> None:
    q, k, v, rpb, _ = random_inputs(1, 8, 7, 2, 4, 3)
    program = torch.export.export(_Attend(), (q, k, v, rpb))
    plain = program.run_decompositions({FORWARD.default: reference.forward})
    for whole, expected in ((program, True), (plain, False)):
        calls = [node.target for node in whole.graph.nodes if node.op == "call_function"]
        assert (FORWARD.default in calls) is expected
        torch.testing.assert_close(whole.module()(q, k, v, rpb), _Attend()(q, k, v, rpb))


def test_default_scale_is_the_inverse_root_of_the_head_dimension() -> None:
    q, k, v, rpb, _ = random_inputs(1, 7, 8, 2, 16, 3)
    assert torch.equal(
        neighborhood_attention_2d(q, k, v, rpb, kernel_size=3),
        neighborhood_attention_2d(q, k, v, rpb, kernel_size=3, scale=0.25),
    )


def test_second_derivative_is_refused_with_a_reason() -> None:
    q = torch.randn(1, 3, 3, 1, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(neighborhood_attention_2d(q, q, q, kernel_size=3).sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiable once"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, "odd"),
        ({"kernel_size": 1}, "odd"),
        ({"dilation": 0}, "dilation"),
        ({"dilation": 3}, "8x9 is smaller"),
        ({"rpb": torch.zeros(2, 5, 7)}, r"rpb must be \[heads, 5, 5\] with 2 heads"),
        ({"k": torch.zeros(1, 8, 9, 2, 3)}, "one shape"),
        ({"v": torch.zeros(1, 8, 9, 2, 4).double()}, "one dtype"),
        ({name: torch.zeros(1, 8, 9, 2, 4).long() for name in "qkv"}, "float64, float32, bfloat16 and float16"),
        ({"v": torch.zeros(1, 8, 9, 2, 4, device="meta")}, "on one device, not cpu, cpu, meta"),
        ({"rpb": torch.zeros(2, 5, 5, device="meta")}, "rpb must be on the device of q, cpu, not on meta"),
        ({"rpb": torch.zeros(2, 5, 5).long()}, "rpb must have a floating dtype"),
        ({"dilation": 2**62}, "8x9 is smaller"),
        ({name: torch.zeros(1, 8, 9, 2, 0) for name in "qkv"}, "at least one channel"),
        ({name: torch.zeros(8, 9, 2, 4) for name in "qkv"}, "one shape"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_inputs_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    arguments = {name: torch.zeros(1, 8, 9, 2, 4) for name in "qkv"} | {"kernel_size": 3}
    with pytest.raises(ValueError, match=message):
        neighborhood_attention_2d(**{**arguments, **change})
