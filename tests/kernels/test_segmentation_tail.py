"""The evaluation tail: reference and compiled kernel against PyTorch's resizing, softmax and counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from neighborhood_cases import require_native
from tail_cases import CPU, assert_labels_are_best, published_scores, random_logits, whole_side
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from variant_process import words_printed

from segzoo.inference.resampling import Side, side_taps
from segzoo.inference.windows import windows
from segzoo.kernels import Taps, segmentation_tail, tail_reference, tail_tiles
from segzoo.metrics import ConfusionMatrix

OPERATOR = torch.ops.segzoo.segmentation_tail
BACKENDS = ["native", "reference"]


def run(
    backend: str,
    logits: list[Tensor],
    rows: list[Taps],
    columns: list[Taps],
    target: Tensor | None = None,
    num_classes: int = 0,
    ignore: int = 255,
) -> tuple[Tensor, Tensor]:
    """Labels and counts by the operator or by its reference."""
    arguments = flat(logits, rows, columns, target, num_classes, ignore)
    if backend == "reference":
        return tail_reference.forward(*arguments)
    require_native()
    return OPERATOR(*arguments)


def flat(logits: list[Tensor], rows: list[Taps], columns: list[Taps], *rest: Tensor | int | None) -> tuple:
    taps = [[taps.sources for taps in rows], [taps.weights for taps in rows]]
    taps += [[taps.sources for taps in columns], [taps.weights for taps in columns]]
    return logits, *taps, *rest


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("classes", "logits", "network", "image"),
    [
        (150, (12, 17), (48, 68), (48, 68)),
        (19, (9, 31), (36, 121), (50, 77)),
        (3, (5, 4), (20, 16), (7, 11)),
        (1, (2, 3), (8, 9), (8, 9)),
        (300, (6, 6), (24, 24), (31, 33)),
        (21, (1, 1), (4, 5), (6, 3)),
        (60, (40, 50), (40, 50), (40, 50)),
    ],
)
def test_labels_of_one_view_are_those_of_two_interpolations(backend, classes, logits, network, image):
    values = random_logits(classes, *logits)
    rows, columns = (whole_side(logits[i], network[i], image[i]) for i in range(2))
    labels, counts = run(backend, [values], [rows], [columns])
    assert labels.shape == image and labels.dtype == (torch.uint8 if classes <= 256 else torch.int32)
    assert counts.shape == (0, 0) and counts.dtype == torch.int64
    assert_labels_are_best(labels, published_scores(values, network, image), 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_of_views_are_those_of_the_mean_softmax(backend):
    sizes, image = [(10, 14), (15, 21), (7, 9)], (43, 59)
    values = [random_logits(40, *size, seed=seed) for seed, size in enumerate(sizes)]
    networks = [(size[0] * 4, size[1] * 4) for size in sizes]
    rows = [whole_side(size[0], network[0], image[0]) for size, network in zip(sizes, networks, strict=True)]
    columns = [
        whole_side(size[1], network[1], image[1], mirrored=number == 1)
        for number, (size, network) in enumerate(zip(sizes, networks, strict=True))
    ]
    labels, _ = run(backend, values, rows, columns)
    views = [published_scores(view, network, image) for view, network in zip(values, networks, strict=True)]
    views[1] = views[1].flip(-1)
    assert_labels_are_best(labels, sum(view.softmax(0) for view in views), 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("views", [1, 2])
def test_windows_are_averaged_before_the_best_class_is_taken(backend, views):
    side = Side(image=61, windows=windows(80, 40, 27), logits=10)
    taps, values = side_taps(side, CPU), random_logits(33, 30, 30)
    labels, _ = run(backend, [values] * views, [taps] * views, [taps] * views)
    matrix = torch.zeros(61, 30, dtype=torch.float64).scatter_add_(1, taps.sources.long(), taps.weights.double())
    scores = torch.einsum("yr,crs,xs->cyx", matrix, values.double(), matrix)
    assert_labels_are_best(labels, scores, 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("views", [1, 3])
def test_the_lowest_class_wins_a_tie(backend, views):
    values = random_logits(20, 6, 7).repeat_interleave(2, 0)
    rows, columns = whole_side(6, 24, 24), whole_side(7, 28, 28)
    labels, _ = run(backend, [values] * views, [rows] * views, [columns] * views)
    assert (labels % 2 == 0).all() and len(labels.unique()) > 5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
@pytest.mark.parametrize(("classes", "counted"), [(7, 7), (7, 5), (300, 300)])
def test_counts_are_those_of_the_confusion_matrix(backend, kind, classes, counted):
    values = random_logits(classes, 9, 11)
    rows, columns = whole_side(9, 36, 45), whole_side(11, 44, 37)
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 9, (45, 37), generator=generator).to(kind)
    target[3:9, 4:20] = 255
    labels, counts = run(backend, [values], [rows], [columns], target, counted, 255)
    matrix = ConfusionMatrix(counted)
    matrix.update(labels.numpy(), target.numpy())
    np.testing.assert_array_equal(counts.numpy(), matrix.counts)
    assert counts.sum() == 45 * 37 - 6 * 16


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("kind", ["channels last", "sliced", "expanded", "bfloat16"])
def test_strides_and_bfloat16_change_nothing_but_rounding(backend, kind, views):
    dense = random_logits(21, 9, 23).bfloat16().float()
    values = {
        "channels last": dense.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        "sliced": torch.stack([dense, -dense], -1).repeat(1, 2, 1, 1)[:, 4:13, :, 0],
        "expanded": dense[:, :1].expand(-1, 9, -1),
        "bfloat16": dense.bfloat16(),
    }[kind]
    wanted = values.float().contiguous()
    rows, columns = [whole_side(9, 36, 50)] * views, [whole_side(23, 92, 81)] * views
    found, _ = run(backend, [values] * views, rows, columns)
    labels, _ = run(backend, [wanted] * views, rows, columns)
    assert torch.equal(found, labels)


_PRINT_COUNTS = """
from test_segmentation_tail import counts_of
print(*counts_of(1), *counts_of(3))
"""


def counts_of(views: int) -> list[int]:
    values = [random_logits(40, 11, 23, seed=seed) for seed in range(views)]
    rows, columns = whole_side(11, 44, 53), whole_side(23, 92, 79)
    target = torch.arange(53 * 79).view(53, 79) % 40
    return run("native", values, [rows] * views, [columns] * views, target, 40, 255)[1].flatten().tolist()


@pytest.mark.parametrize("variant", ["portable", "avx2"])
def test_every_processor_variant_counts_the_same(variant):
    require_native()
    found = torch.tensor([int(word) for word in words_printed(_PRINT_COUNTS, variant)])
    here = torch.tensor(counts_of(1) + counts_of(3))
    # A pixel whose two best classes are nearer than rounding moves from one count to another.
    assert found.sum() == here.sum() == 2 * 53 * 79 and (found - here).abs().sum() <= 4


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("with_target", [False, True])
def test_opcheck_passes(views, with_target):
    require_native()
    values = [random_logits(5, 4, 6, seed=seed) for seed in range(views)]
    rows, columns = [whole_side(4, 16, 18)] * views, [whole_side(6, 24, 20)] * views
    target = torch.zeros(18, 20, dtype=torch.uint8) if with_target else None
    torch.library.opcheck(OPERATOR, flat(values, rows, columns, target, 5, 255))


def test_flops_are_a_multiply_add_a_tap():
    values, rows, columns = random_logits(5, 4, 6), whole_side(4, 16, 16), whole_side(6, 24, 24)
    with FlopCounterMode(display=False) as counter:
        segmentation_tail([values], [rows], [columns])
    # 5 classes: 4 rows of 24 pixels with 2 taps, then 16 x 24 pixels with 2 taps
    assert counter.get_total_flops() == 2 * 5 * (4 * 24 * 2 + 16 * 24 * 2)


def test_what_does_not_fit_is_named():
    values, rows, columns = random_logits(5, 4, 6), whole_side(4, 16, 16), whole_side(6, 24, 24)
    with pytest.raises(ValueError, match="2 views of logits need as many rows and columns, not 1, 2"):
        segmentation_tail([values] * 2, [rows], [columns] * 2)
    with pytest.raises(ValueError, match=r"logits\[1\] must be floating point \[5, h, w\]"):
        segmentation_tail([values, values[:4]], [rows] * 2, [columns] * 2)
    with pytest.raises(ValueError, match=r"logits\[0\] must be floating point .* not torch.int64"):
        segmentation_tail([values.long()], [rows], [columns])
    with pytest.raises(ValueError, match=r"rows\[0\] must have int32 sources and float32 weights"):
        segmentation_tail([values], [Taps(sources=rows.sources.long(), weights=rows.weights)], [columns])
    with pytest.raises(ValueError, match=r"columns\[0\] must have sources and weights \[24, taps\]"):
        segmentation_tail([values], [rows], [Taps(sources=columns.sources, weights=columns.weights[:, :1])])
    with pytest.raises(ValueError, match=r"target must be integers \[16, 24\], not torch.float32 \[16, 24\]"):
        segmentation_tail([values], [rows], [columns], target=torch.zeros(16, 24))


def test_the_references_tiles_of_any_size_give_the_same_labels(monkeypatch):
    values, rows, columns = random_logits(21, 20, 30), whole_side(20, 80, 75), whole_side(30, 120, 110)
    one, _ = run("reference", [values] * 2, [rows] * 2, [columns] * 2)
    monkeypatch.setattr(tail_tiles, "_CPU_TILE_VALUES", 10**9)
    monkeypatch.setattr(tail_tiles, "_CPU_TILE_COLUMNS", 1000)
    other, _ = run("reference", [values] * 2, [rows] * 2, [columns] * 2)
    assert (one != other).sum() <= 1


def test_an_error_in_a_thread_of_the_reference_is_not_lost(monkeypatch):
    def fail(*words):
        raise ArithmeticError("in the tail")

    monkeypatch.setattr(tail_tiles.Tiles, "first_best", fail)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ArithmeticError, match="in the tail"):
            run("reference", [random_logits(50, 20, 30)], [whole_side(20, 80, 75)], [whole_side(30, 120, 110)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("views", [1, 2])
def test_a_band_of_the_picture_copies_the_logit_rows_that_it_is_made_of_and_no_others(views):
    maps = [random_logits(5, 40, 9, seed) for seed in range(views)]
    rows, columns = whole_side(40, 160, 160), whole_side(9, 36, 36)
    band = slice(64, 80)
    of_band = Taps(sources=rows.sources[band].contiguous(), weights=rows.weights[band].contiguous())
    (found, *_) = tail_tiles.views_of(maps, *[[(t.sources, t.weights)] * views for t in (of_band, columns)])
    # 16 pixels at a quarter of the size are made of 4 rows and one beyond at either end.
    assert found.values.shape == (6, 5, 9)
    whole, parts = (tail_reference.Sums(views=views, confident=True) for _ in range(2))
    labels = whole.add(maps, *[[(t.sources, t.weights)] * views for t in (rows, columns)])
    of_rows = parts.add(maps, *[[(t.sources, t.weights)] * views for t in (of_band, columns)])
    assert torch.equal(of_rows, labels[band])
    torch.testing.assert_close(parts.confidence, whole.confidence[band], rtol=1e-6, atol=1e-7)
