"""Deformable attention: both kernels against recorded facts, sums by hand, and each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from neighborhood_cases import require_native
from oracle_files import oracle
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from segzoo.kernels import deformable_attention
from segzoo.kernels import deformable_reference as reference
from segzoo.models.deformable_transformer import DeformableAttention, pixel_centres

BACKENDS = ("native", "reference")
CASES = ("a_1level_4pt", "b_2level_4pt", "d_3level_16pt_uneven", "f_all_outside")
FORWARD = torch.ops.segzoo.deformable_attention
BACKWARD = torch.ops.segzoo.deformable_attention_backward
SHAPES = [5, 7, 3, 2]  # two levels


def run(backend: str, value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    if backend == "native":
        require_native()
        return FORWARD(value, shapes, locations, weights)
    return reference.forward(value, shapes, locations, weights)


def run_backward(backend: str, grad: Tensor, value: Tensor, shapes: list[int], *rest: Tensor) -> tuple[Tensor, ...]:
    if backend == "native":
        require_native()
        return BACKWARD(grad, value, shapes, *rest)
    return reference.backward(grad, value, shapes, *rest)


def random_inputs(dtype: torch.dtype = torch.float64, dim: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, locations (a part outside), weights and the output's gradient: batch 2, 3 heads, 4 points, 6 queries."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = draw(2, 6, 3, 8).softmax(-1).unflatten(-1, (2, 4))
    return draw(2, 41, 3, dim) - 0.5, draw(2, 6, 3, 2, 4, 2) * 1.6 - 0.3, weights, draw(2, 6, 3 * dim) - 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_output_and_gradients_equal_the_recorded(backend, case, dtype):
    recorded = np.load(oracle("ms-deform-attn/msda.npz"))
    facts = {key.partition(".")[2]: torch.from_numpy(recorded[key]) for key in recorded if key.startswith(case)}
    inputs = [facts[name].to(dtype) for name in ("value", "sampling_locations", "attention_weights")]
    shapes = facts["spatial_shapes"].flatten().tolist()
    measured = [run(backend, inputs[0], shapes, *inputs[1:])]
    measured += run_backward(backend, facts["grad_output"].to(dtype), inputs[0], shapes, *inputs[1:])
    names = ("output", "grad_value", "grad_sampling_locations", "grad_attention_weights")
    for name, result in zip(names, measured, strict=True):
        truth = facts[name]
        assert result.shape == truth.shape
        assert (result - truth).abs().max() <= 5e-6 * max(1.0, truth.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_is_the_bilinear_mean_of_its_neighbours(backend):
    value = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1, 1)  # a map of 2x2
    # (x, y): a pixel's centre, the middle of all four, a quarter towards the right, half outside at the left
    places = [(0.25, 0.25), (0.5, 0.5), (0.375, 0.75), (0.0, 0.25), (-0.3, 0.5)]
    locations = torch.tensor(places).view(1, 5, 1, 1, 1, 2)
    output = run(backend, value, [2, 2], locations, torch.full((1, 5, 1, 1, 1), 2.0))
    expected = [2 * 1.0, 2 * 15 / 4, 2 * (0.75 * 4 + 0.25 * 8), 2 * 0.5 * 1.0, 0.0]
    torch.testing.assert_close(output.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_centre_on_every_level_reads_that_levels_token(backend):
    value = torch.arange(41.0).view(1, 41, 1, 1)
    grid = torch.cat([pixel_centres(5, 7, torch.device("cpu")), pixel_centres(3, 2, torch.device("cpu"))])
    for level, tokens in ((0, slice(0, 35)), (1, slice(35, 41))):
        places = grid[tokens][None, :, None, None, None].expand(-1, -1, 1, 2, 1, 2)
        weights = torch.zeros(1, places.shape[1], 1, 2, 1)
        weights[:, :, :, level] = 1
        torch.testing.assert_close(run(backend, value, SHAPES, places, weights).flatten(), value[0, tokens].flatten())


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_those_of_finite_differences(backend, monkeypatch):
    value, locations, weights, _ = random_inputs(dim=3)
    if backend == "reference":
        function = reference.forward
    else:
        require_native()
        function = FORWARD
    inputs = [tensor[:1, :2].clone().requires_grad_() for tensor in (locations, weights)]
    image = value[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p, w: function(v, SHAPES, p, w), (image, *inputs))


@pytest.mark.parametrize("points", [1, 70])
@pytest.mark.parametrize("dim", [1, 16, 20, 64])
def test_native_equals_the_reference_for_odd_widths_and_long_lists(dim, points):
    require_native()
    generator = torch.Generator().manual_seed(dim)
    value = torch.randn(2, 41, 3, dim, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, 300, 3, 2, points, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, 300, 3, 2, points, generator=generator, dtype=torch.float64)
    grad = torch.randn(2, 300, 3 * dim, generator=generator, dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-4)):
        rounded = [tensor.to(dtype) for tensor in (grad, value, locations, weights)]
        exact = [tensor.double() for tensor in rounded]
        measured = [FORWARD(rounded[1], SHAPES, *rounded[2:]), *BACKWARD(*rounded[:2], SHAPES, *rounded[2:])]
        truth = [reference.forward(exact[1], SHAPES, *exact[2:])]
        truth += reference.backward(*exact[:2], SHAPES, *exact[2:])
        for result, expected in zip(measured, truth, strict=True):
            assert (result - expected).abs().max() <= tolerance * expected.abs().max()


def test_the_number_of_threads_changes_no_bit():
    require_native()
    value, locations, weights, grad = random_inputs(torch.float32, dim=32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            forward = FORWARD(value, SHAPES, locations, weights)
            results.append([forward, *BACKWARD(grad, value, SHAPES, locations, weights)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_a_value_that_is_not_finite_spoils_those_who_read_it():
    require_native()
    value, locations, weights, _ = random_inputs()
    value[:, 17] = torch.nan
    spoilt = [~torch.isfinite(run(backend, value, SHAPES, locations, weights)) for backend in BACKENDS]
    assert torch.equal(spoilt[0], spoilt[1])
    assert spoilt[0].any() and not spoilt[0].all()


def test_a_location_that_is_no_number_spoils_its_query():
    value, locations, weights, grad = random_inputs()
    locations[1, 4, 2, 0, 3, 1] = torch.nan
    results = [run(backend, value, SHAPES, locations, weights).view(2, 6, 3, 5) for backend in BACKENDS]
    for output in results:
        assert output[1, 4, 2].isnan().all() and output.isnan().sum() == 5
    assert run_backward("native", grad, value, SHAPES, locations, weights)[2][1, 4, 2, 0, 3].isnan()


def test_empty_batches_and_no_queries_give_empty_results():
    value, locations, weights, grad = random_inputs()
    for cut in ((slice(0), slice(None)), (slice(None), slice(0))):
        inputs = value[cut[0]], SHAPES, locations[cut], weights[cut]
        assert run("native", *inputs).shape == (*locations[cut].shape[:2], 15)
        gradients = run_backward("native", grad[cut], *inputs)
        assert [tuple(g.shape) for g in gradients] == [tuple(inputs[i].shape) for i in (0, 2, 3)]
        assert not gradients[0].any()


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


def test_overlapping_views_are_read_as_they_are():
    value, locations, weights, grad = random_inputs(torch.float32, dim=8)
    views = value[:1].expand_as(value), locations[:, :1].expand_as(locations), weights[..., :1].expand_as(weights)
    dense = [view.contiguous() for view in views]
    assert torch.equal(run("native", views[0], SHAPES, *views[1:]), run("native", dense[0], SHAPES, *dense[1:]))
    spread = grad[..., :1].expand_as(grad)
    for one, other in zip(
        run_backward("native", spread, views[0], SHAPES, *views[1:]),
        run_backward("native", spread.contiguous(), dense[0], SHAPES, *dense[1:]),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), 1e30, -1e30])
def test_locations_far_outside_or_infinite_read_nothing(bad):
    require_native()
    value, locations, weights, grad = random_inputs(torch.float32, dim=8)
    locations = torch.full_like(locations, bad)
    assert not run("native", value, SHAPES, locations, weights).any()
    assert not any(g.any() for g in run_backward("native", grad, value, SHAPES, locations, weights))


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


_PRINT_SUMS = """
import sys, torch
sys.path[:0] = {path}
from test_deformable_attention import SHAPES, random_inputs, run, run_backward
from segzoo import kernels
value, locations, weights, grad = random_inputs(torch.float32, dim=20)
results = [run("native", value, SHAPES, locations, weights)]
results += run_backward("native", grad, value, SHAPES, locations, weights)
print(kernels.describe(), *(float(r.double().square().sum()) for r in results))
"""


@pytest.mark.parametrize("variant", ["portable", "avx2"])
def test_every_processor_variant_computes_the_same(variant):
    require_native()
    code = _PRINT_SUMS.format(path=repr([str(Path(__file__).parent), *sys.path]))
    environment = {**os.environ, "SEGZOO_CPU_VARIANT": variant}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    words = result.stdout.split()
    if variant not in words[1]:
        pytest.skip(f"this processor has no {variant} variant")
    value, locations, weights, grad = random_inputs(torch.float32, dim=20)
    results = [FORWARD(value, SHAPES, locations, weights), *BACKWARD(grad, value, SHAPES, locations, weights)]
    for word, expected in zip(words[2:], results, strict=True):
        assert float(word) == pytest.approx(float(expected.double().square().sum()), rel=1e-5)
