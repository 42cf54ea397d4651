"""Deformable attention as an operator of PyTorch: contract, compiling, export, autocast, dtypes and refusals."""

from __future__ import annotations

import pytest
import torch
from deformable_cases import BACKWARD, FORWARD, SHAPES, random_inputs
from neighborhood_cases import require_native
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from segzoo.kernels import deformable_attention
from segzoo.kernels import deformable_reference as reference
from segzoo.models.deformable_transformer import DeformableAttention, pixel_centres


# opcheck itself looks at .grad of the tensors it has made from ours
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("kind", ["dense", "transposed", "sliced"])
def test_opcheck_passes_for_strided_inputs_and_strides_change_nothing(kind):
    require_native()
    dense = random_inputs()
    strided = {
        "dense": list(dense),
        "transposed": [tensor.transpose(0, -1).contiguous().transpose(0, -1) for tensor in dense],
        "sliced": [torch.stack([tensor, tensor], -1)[..., 0] for tensor in dense],
    }[kind]
    value, locations, weights, grad = strided
    torch.testing.assert_close(FORWARD(value, SHAPES, locations, weights), FORWARD(dense[0], SHAPES, *dense[1:3]))
    leaves = [tensor.detach().requires_grad_() for tensor in (value, locations, weights)]
    torch.library.opcheck(FORWARD, (leaves[0], SHAPES, *leaves[1:]))
    torch.library.opcheck(BACKWARD, (grad, value, SHAPES, locations, weights))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # inductor's own, in PyTorch 2.11
@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)], ids=["aot_eager", "inductor"]
)
def test_the_layer_compiles_without_a_graph_break_forward_and_backward(backend):
    require_native()
    torch.manual_seed(0)
    layer = DeformableAttention(8, heads=2, levels=2, points=3)
    tokens, query = torch.randn(2, 41, 8), torch.randn(2, 6, 8)
    torch.nn.init.normal_(layer.attention_weights.weight)

    def attend(query: Tensor, tokens: Tensor) -> Tensor:
        return layer(query, pixel_centres(2, 3, query.device), tokens, [(5, 7), (3, 2)]).relu()

    gradients = []
    for function in (attend, torch.compile(attend, fullgraph=True, backend=backend)):
        leaves = query.clone().requires_grad_(), tokens.clone().requires_grad_()
        function(*leaves).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_keeps_its_dtype(dtype):
    value, locations, weights, _ = random_inputs(torch.float32, dim=8)
    half = value.to(dtype).requires_grad_()
    shapes = torch.tensor([(5, 7), (3, 2)])
    output = deformable_attention(half, shapes, locations, weights)
    exact = reference.forward(half.detach().double(), SHAPES, locations.double(), weights.double())
    assert output.dtype == dtype
    assert (output.double() - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()
    output.float().sum().backward()
    assert half.grad is not None and half.grad.dtype == dtype


def test_flops_are_five_multiply_adds_a_channel_of_every_point():
    value, locations, weights, _ = (tensor.to("meta") for tensor in random_inputs(dim=16))
    with FlopCounterMode(display=False) as counter:
        output = deformable_attention(value, [(5, 7), (3, 2)], locations, weights)
    assert output.shape == (2, 6, 48)
    assert counter.get_total_flops() == 2 * 5 * (2 * 6 * 3 * 8) * 16


def test_shapes_that_do_not_fit_are_named():
    value, locations, weights, _ = random_inputs()
    shapes = [(5, 7), (3, 2)]
    with pytest.raises(ValueError, match=r"value must be \[batch, 35, heads, head_dim\]"):
        deformable_attention(value, shapes[:1], locations, weights)
    with pytest.raises(ValueError, match=r"do not fit value \(1, 41, 3, 5\) and 2 levels"):
        deformable_attention(value[:1], shapes, locations, weights)
    with pytest.raises(ValueError, match="sampling_locations must be"):
        deformable_attention(value, shapes, locations[..., 0], weights)
    with pytest.raises(ValueError, match="attention_weights must be"):
        deformable_attention(value, shapes, locations, weights[..., :1])
    require_native()
    with pytest.raises(RuntimeError, match="value has 41 tokens, the levels 35"):
        FORWARD(value, [5, 7], locations[:, :, :, :1], weights[:, :, :, :1])
    with pytest.raises(RuntimeError, match="locations and weights must be float32"):
        FORWARD(value.float(), SHAPES, locations, weights)


class _Attend(torch.nn.Module):
    def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return deformable_attention(value, [(5, 7), (3, 2)], locations, weights)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch 2.11's, of a class of its own
def test_an_exported_program_holds_the_operator_and_the_reference_decomposes_it():
    inputs = random_inputs(torch.float32)[:3]
    program = torch.export.export(_Attend(), inputs)
    plain = program.run_decompositions({FORWARD.default: reference.forward})
    for whole, expected in ((program, True), (plain, False)):
        calls = [node.target for node in whole.graph.nodes if node.op == "call_function"]
        assert (FORWARD.default in calls) is expected
        torch.testing.assert_close(whole.module()(*inputs), _Attend()(*inputs))


def test_autocast_lowers_the_value_at_most_and_never_the_locations():
    value, locations, weights, _ = random_inputs(torch.float32, dim=8)
    with torch.autocast("cpu", torch.bfloat16):
        output = deformable_attention(value.bfloat16(), [(5, 7), (3, 2)], locations, weights)
        full = deformable_attention(value, [(5, 7), (3, 2)], locations, weights)
    exact = reference.forward(value.bfloat16().double(), SHAPES, locations.double(), weights.double())
    assert output.dtype == torch.bfloat16 and full.dtype == torch.float32
    # with locations of 8 bits the error would be ten times that
    assert (output.double() - exact).abs().max() <= torch.finfo(torch.bfloat16).eps * exact.abs().max()


def test_sizes_beyond_two_to_the_31_are_counted_right_without_memory():
    value = torch.empty(2**17, 41, 16, 64, device="meta")  # more than 2**31 elements
    places = torch.empty(2**17, 8, 16, 2, 4, 2, device="meta")
    assert deformable_attention(value, [(5, 7), (3, 2)], places, places[..., 0]).shape == (2**17, 8, 1024)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spatial_shapes", [], "spatial_shapes must be"),
        ("spatial_shapes", [(5, 7, 1)], "spatial_shapes must be"),
        ("spatial_shapes", torch.tensor([5, 7]), "spatial_shapes must be"),
        ("spatial_shapes", [(41, 1), (0, 3)], "sides of at least 1"),
        ("value", torch.zeros(2, 41, 3, 5).long(), "value must be float64, float32, bfloat16 or float16"),
        ("sampling_locations", torch.zeros(2, 6, 3, 2, 4, 2).int(), "sampling_locations must be float64"),
        ("attention_weights", torch.zeros(2, 6, 3, 2, 4, device="meta"), "attention_weights must be on the device"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(name, change, message):
    value, locations, weights, _ = random_inputs()
    arguments = {
        "value": value,
        "spatial_shapes": [(5, 7), (3, 2)],
        "sampling_locations": locations,
        "attention_weights": weights,
    }
    with pytest.raises(ValueError, match=message):
        deformable_attention(**{**arguments, name: change})
