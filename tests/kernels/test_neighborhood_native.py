"""What only the compiled kernel has: vector widths, tiles, bands, threads, processor variants."""

from __future__ import annotations

import itertools

import pytest
import torch
from neighborhood_cases import random_inputs, relative_error, require_native, run_backward, run_forward
from variant_process import words_printed

# widths around the vector lengths, windows as large as the map, head sizes that fit no vector
SHAPES = [
    # height, width, heads, head_dim, kernel, dilation
    (3, 3, 1, 1, 3, 1),
    (5, 16, 2, 17, 5, 1),
    (9, 17, 1, 32, 3, 1),
    (7, 33, 2, 40, 7, 1),
    (40, 7, 1, 8, 7, 1),
    (16, 18, 2, 32, 3, 5),
    (15, 47, 1, 16, 5, 3),
    (21, 22, 3, 24, 7, 3),
    (66, 9, 1, 48, 9, 1),
    (11, 30, 1, 64, 11, 1),
    (27, 26, 2, 16, 13, 2),
]


@pytest.fixture(autouse=True)
def _native() -> None:
    require_native()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_shape_agrees_with_the_float64_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    height, width, heads, head_dim, kernel, dilation = shape
    q, k, v, rpb, grad = random_inputs(2, height, width, heads, head_dim, kernel, dtype)
    numbers = kernel, dilation, 0.3
    tolerance = 1e-13 if dtype is torch.float64 else 5e-6
    wide = [tensor.double() for tensor in (q, k, v, rpb)]
    for value, truth in zip(
        run_forward("native", q, k, v, rpb, *numbers), run_forward("reference", *wide, *numbers), strict=True
    ):
        assert relative_error(value, truth) < tolerance
    expected = run_backward("reference", grad.double(), *wide, *numbers)
    for value, truth in zip(run_backward("native", grad, q, k, v, rpb, *numbers), expected, strict=True):
        assert relative_error(value, truth) < tolerance


def test_one_and_two_threads_give_the_same_bits() -> None:
    q, k, v, rpb, grad = random_inputs(1, 37, 29, 2, 32, 7)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(
                run_forward("native", q, k, v, rpb, 7, 2, 0.2) + run_backward("native", grad, q, k, v, rpb, 7, 2, 0.2)
            )
    finally:
        torch.set_num_threads(before)
    for one, two, again in zip(*results, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(two, again)


def test_large_logits_neither_overflow_nor_lose_the_maximum() -> None:
    q, k, v, rpb, _ = random_inputs(1, 7, 20, 1, 8, 3)
    output, logsumexp = run_forward("native", 300 * q, k, v, rpb, 3, 1, 1.0)
    exact = run_forward("reference", 300 * q.double(), k.double(), v.double(), rpb.double(), 3, 1, 1.0)
    assert torch.isfinite(output).all()
    # a logit of some hundreds is rounded at 6e-8 of itself, which the exponential turns into about 1e-4
    assert relative_error(output, exact[0]) < 1e-3
    assert relative_error(logsumexp, exact[1]) < 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_key_spoils_the_queries_that_see_it_and_no_other(bad: float) -> None:
    q, k, v, rpb, _ = random_inputs(1, 9, 20, 1, 8, 3)
    k = k.clone()
    k[0, 4, 10] = bad
    spoilt = ~torch.isfinite(run_forward("native", q, k, v, rpb, 3, 1, 1.0)[0]).all(-1)[0, :, :, 0]
    expected = ~torch.isfinite(run_forward("reference", q, k, v, rpb, 3, 1, 1.0)[0]).all(-1)[0, :, :, 0]
    assert torch.equal(spoilt, expected)
    assert spoilt[3:6, 9:12].all() and spoilt.sum() == 9


def test_empty_batch_gives_empty_results() -> None:
    q, k, v, rpb, grad = random_inputs(0, 5, 6, 2, 4, 3)
    assert run_forward("native", q, k, v, rpb, 3, 1, 1.0)[0].shape == (0, 5, 6, 2, 4)
    assert not run_backward("native", grad, q, k, v, rpb, 3, 1, 1.0)[3].any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_is_read_in_place_and_rounded_once(shape: tuple[int, ...]) -> None:
    height, width, heads, head_dim, kernel, dilation = shape
    q, k, v, rpb, grad = random_inputs(1, height, width, heads, head_dim, kernel, torch.bfloat16)
    numbers = kernel, dilation, 0.3
    wide = [tensor.float() for tensor in (q, k, v)]
    output, logsumexp = run_forward("native", q, k, v, rpb, *numbers)
    exact = run_forward("native", *wide, rpb.float(), *numbers)
    # the same float32 arithmetic on the same numbers, so nothing but the last rounding
    assert torch.equal(output, exact[0].bfloat16()) and torch.equal(logsumexp, exact[1])
    backward = torch.ops.segzoo.neighborhood_attention_2d_backward
    saved = output, logsumexp
    low = backward(grad, q, k, v, rpb, *saved, *numbers)
    full = backward(grad.float(), *wide, rpb.float(), output.float(), logsumexp, *numbers)
    assert all(torch.equal(value, truth.bfloat16()) for value, truth in zip(low, full, strict=True))


@pytest.mark.parametrize("value", [0.0, -0.0, float("inf"), -float("inf"), 3.3895e38, 1e-40, 1.00390625, 1.01171875])
def test_bfloat16_rounds_as_pytorch_does(value: float) -> None:
    # with one value everywhere the output is that value, rounded from float32 through float16's copy or in place
    q = torch.zeros(1, 3, 17, 1, 20, dtype=torch.bfloat16)
    v = torch.full_like(q, value)
    output = run_forward("native", q, q, v, None, 3, 1, 1.0)[0]
    expected = run_forward("native", q.float(), q.float(), v.float(), None, 3, 1, 1.0)[0].bfloat16()
    assert torch.equal(output, expected)


def test_not_a_number_stays_one_in_bfloat16() -> None:
    q, k, v, rpb, _ = random_inputs(1, 5, 18, 1, 20, 3, torch.bfloat16)
    q = q.clone()
    q[0, 2, 3] = float("nan")
    spoilt = run_forward("native", q, k, v, rpb, 3, 1, 1.0)[0].isnan()
    assert spoilt[0, 2, 3].all() and spoilt.sum() == 20


def test_overlapping_views_are_read_as_they_are() -> None:
    q, k, v, rpb, grad = random_inputs(3, 9, 18, 2, 16, 5)
    views = (
        q[:1].expand(3, -1, -1, -1, -1),
        k[:, :, :, :1].expand(-1, -1, -1, 2, -1),
        v[..., :1].expand(-1, -1, -1, -1, 16),
    )
    dense = [view.contiguous() for view in views]
    numbers = 5, 1, 0.3
    for one, other in zip(
        run_backward("native", grad[..., :1].expand_as(grad), *views, rpb, *numbers),
        run_backward("native", grad[..., :1].expand_as(grad).contiguous(), *dense, rpb, *numbers),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_strides_beyond_two_to_the_31_reach_the_right_tokens() -> None:
    q, k, v, rpb, _ = random_inputs(1, 7, 9, 1, 16, 7, torch.bfloat16)
    row = 2**29  # the last row begins at element 6 * 2**29 > 2**31
    try:
        memory = torch.empty(6 * row + 9 * 16, dtype=torch.bfloat16)  # untouched pages take no memory
    except RuntimeError as error:
        pytest.skip(f"no address space of 6 GiB: {error}")
    far = memory.as_strided((1, 7, 9, 1, 16), (0, row, 16, 16, 1))
    far.copy_(k)
    expected = run_forward("native", q, k, v, rpb, 7, 1, 0.3)
    for one, other in zip(run_forward("native", q, far, v, rpb, 7, 1, 0.3), expected, strict=True):
        assert torch.equal(one, other)


def test_sizes_beyond_two_to_the_31_are_counted_right_without_memory() -> None:
    q = torch.empty(2**16, 64, 64, 8, 32, device="meta", dtype=torch.bfloat16)  # 2**36 elements
    output, logsumexp = torch.ops.segzoo.neighborhood_attention_2d(q, q, q, None, 7, 1, 1.0)
    assert output.numel() == 2**36 and logsumexp.shape == q.shape[:4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": (1, 8, 9, 2, 5)}, "key differs from query in dimension 4"),
        ({"value": (1, 8, 9, 2)}, "value must have 5 dimensions"),
        ({"bias": (2, 5, 4)}, r"bias must be \[heads"),
        ({"numbers": (4, 1, 1.0)}, "kernel_size must be odd"),
        ({"numbers": (3, 2**62, 1.0)}, "smaller than kernel_size"),
        ({"numbers": (2**62 + 1, 1, 1.0)}, "smaller than kernel_size"),
    ],
    ids=str,
)
def test_the_operator_itself_refuses_what_would_crash(arguments: dict, message: str) -> None:
    shapes = dict.fromkeys(("query", "key", "value"), (1, 8, 9, 2, 4)) | {"bias": (2, 5, 5)}
    shapes |= {name: shape for name, shape in arguments.items() if name != "numbers"}
    tensors = [torch.zeros(shape) for shape in shapes.values()]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.segzoo.neighborhood_attention_2d(*tensors, *arguments.get("numbers", (3, 1, 1.0)))


_PRINT_SUMS = """
from neighborhood_cases import random_inputs, run_backward, run_forward
q, k, v, rpb, grad = random_inputs(1, 21, 37, 2, 20, 5)
results = run_forward("native", q, k, v, rpb, 5, 2, 0.3) + run_backward("native", grad, q, k, v, rpb, 5, 2, 0.3)
print(*(float(r.double().square().sum()) for r in results))
"""


@pytest.mark.parametrize("variant", ["portable", "avx2"])
def test_every_processor_variant_computes_the_same(variant: str) -> None:
    words = words_printed(_PRINT_SUMS, variant)
    q, k, v, rpb, grad = random_inputs(1, 21, 37, 2, 20, 5)
    results = run_forward("native", q, k, v, rpb, 5, 2, 0.3) + run_backward("native", grad, q, k, v, rpb, 5, 2, 0.3)
    for word, result in zip(words, results, strict=True):
        assert float(word) == pytest.approx(float(result.double().square().sum()), rel=1e-5)


def test_bands_cover_every_row_once() -> None:
    # one head and one image are cut into bands; each band repeats the rows that its neighbours need
    for height, kernel in itertools.product((16, 31, 64), (3, 7)):
        q, k, v, rpb, grad = random_inputs(1, height, 9, 1, 16, kernel, torch.float64)
        expected = run_backward("reference", grad, q, k, v, rpb, kernel, 1, 0.5)
        for value, truth in zip(run_backward("native", grad, q, k, v, rpb, kernel, 1, 0.5), expected, strict=True):
            assert relative_error(value, truth) < 1e-13
