"""Deformable attention: both kernels against recorded facts, sums by hand, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deformable_cases import BACKWARD, FORWARD, SHAPES, random_inputs, run, run_backward
from neighborhood_cases import require_native
from oracle_files import oracle
from variant_process import words_printed

from segzoo.kernels import deformable_reference as reference
from segzoo.models.deformable_transformer import pixel_centres

BACKENDS = ("native", "reference")
CASES = ("a_1level_4pt", "b_2level_4pt", "d_3level_16pt_uneven", "f_all_outside")


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


@pytest.mark.parametrize("points", [1, 3, 4, 16, 70])
@pytest.mark.parametrize("dim", [1, 16, 20, 64])
def test_native_equals_the_reference_for_odd_widths_and_long_lists(dim, points):
    require_native()
    generator = torch.Generator().manual_seed(dim)
    value = torch.randn(2, 41, 3, dim, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, 301, 3, 2, points, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, 301, 3, 2, points, generator=generator, dtype=torch.float64)
    grad = torch.randn(2, 301, 3 * dim, generator=generator, dtype=torch.float64)
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


_PRINT_SUMS = """
import torch
from deformable_cases import SHAPES, random_inputs, run, run_backward
value, locations, weights, grad = random_inputs(torch.float32, dim=20)
results = [run("native", value, SHAPES, locations, weights)]
results += run_backward("native", grad, value, SHAPES, locations, weights)
print(*(float(r.double().square().sum()) for r in results))
"""


@pytest.mark.parametrize("variant", ["portable", "avx2"])
def test_every_processor_variant_computes_the_same(variant):
    require_native()
    words = words_printed(_PRINT_SUMS, variant)
    value, locations, weights, grad = random_inputs(torch.float32, dim=20)
    results = [FORWARD(value, SHAPES, locations, weights), *BACKWARD(grad, value, SHAPES, locations, weights)]
    for word, expected in zip(words, results, strict=True):
        assert float(word) == pytest.approx(float(expected.double().square().sum()), rel=1e-5)
