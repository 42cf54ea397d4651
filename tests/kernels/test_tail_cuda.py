"""The CUDA kernels of the evaluation tail, run in the emulator: the device code of csrc/ itself, without a GPU."""

from __future__ import annotations

import struct

import emulated_cuda
import numpy as np
import pytest
import torch
from tail_cases import CPU, assert_labels_are_best, published_scores, random_logits, whole_side
from torch import Tensor

from segzoo.inference.resampling import Side, side_taps
from segzoo.inference.windows import windows
from segzoo.kernels import Taps
from segzoo.metrics import ConfusionMatrix


def emulated(
    logits: list[Tensor],
    rows: list[Taps],
    columns: list[Taps],
    target: Tensor | None = None,
    num_classes: int = 0,
    ignore: int = 255,
) -> tuple[Tensor, Tensor]:
    """Labels and counts as the kernels compute them, the threads of a block in a drawn order."""
    classes, size = len(logits[0]), (len(rows[0].sources), len(columns[0].sources))
    bytes_of_target = 0 if target is None else target.element_size()
    half = logits[0].dtype == torch.bfloat16
    given = struct.pack("8q", half, classes, *size, len(logits), bytes_of_target, num_classes, ignore)
    for view, row, column in zip(logits, rows, columns, strict=True):
        given += struct.pack("2q", *view.shape[1:]) + raw(view)
        for taps in (row, column):
            given += struct.pack("q", taps.sources.shape[1]) + raw(taps.sources) + raw(taps.weights)
    given += b"" if target is None else raw(target)
    program = emulated_cuda.compiled("tail_driver.cpp", "segmentation_tail")
    result = emulated_cuda.run(program, given=given)
    assert result.returncode == 0, result.stderr.decode()
    kind = np.uint8 if classes <= 256 else np.int32
    labels = np.frombuffer(result.stdout, kind, count=size[0] * size[1])
    counts = np.frombuffer(result.stdout[labels.nbytes :], np.int64)
    side = 0 if target is None else num_classes + 1
    return torch.from_numpy(labels.copy()).view(size), torch.from_numpy(counts.copy()).view(side, side)


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


# Two taps a side, three and four (two steps of resizing), one, and lists of unlike lengths.
@pytest.mark.parametrize(
    ("classes", "logits", "network", "image"),
    [
        (37, (12, 17), (48, 68), (48, 68)),
        (19, (9, 31), (36, 121), (50, 137)),
        (3, (5, 4), (20, 16), (7, 11)),
        (300, (3, 3), (12, 12), (9, 13)),
        (6, (20, 11), (20, 11), (20, 11)),
    ],
)
def test_labels_of_one_view_are_those_of_two_interpolations(classes, logits, network, image):
    values = random_logits(classes, *logits)
    rows, columns = (whole_side(logits[i], network[i], image[i]) for i in range(2))
    labels, _ = emulated([values], [rows], [columns])
    assert_labels_are_best(labels, published_scores(values, network, image), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_labels_of_views_are_those_of_the_mean_softmax(dtype):
    sizes, image = [(10, 14), (15, 21), (7, 9)], (23, 31)
    values = [random_logits(21, *size, seed=seed).to(dtype) for seed, size in enumerate(sizes)]
    networks = [(size[0] * 4, size[1] * 4) for size in sizes]
    rows = [whole_side(size[0], network[0], image[0]) for size, network in zip(sizes, networks, strict=True)]
    columns = [
        whole_side(size[1], network[1], image[1], mirrored=number == 1)
        for number, (size, network) in enumerate(zip(sizes, networks, strict=True))
    ]
    labels, _ = emulated(values, rows, columns)
    views = [published_scores(view.float(), network, image) for view, network in zip(values, networks, strict=True)]
    views[1] = views[1].flip(-1)
    assert_labels_are_best(labels, sum(view.softmax(0) for view in views), 1e-6)


@pytest.mark.parametrize("views", [1, 2])
def test_windows_are_averaged_before_the_best_class_is_taken(views):
    side = Side(image=61, windows=windows(80, 40, 27), logits=10)
    taps, values = side_taps(side, CPU), random_logits(9, 30, 30)
    labels, _ = emulated([values] * views, [taps] * views, [taps] * views)
    matrix = torch.zeros(61, 30, dtype=torch.float64).scatter_add_(1, taps.sources.long(), taps.weights.double())
    scores = torch.einsum("yr,crs,xs->cyx", matrix, values.double(), matrix)
    assert_labels_are_best(labels, scores, 1e-5)


@pytest.mark.parametrize("views", [1, 2])
def test_the_lowest_class_wins_a_tie(views):
    values = random_logits(10, 6, 7).repeat_interleave(2, 0)
    rows, columns = whole_side(6, 24, 24), whole_side(7, 28, 28)
    labels, _ = emulated([values] * views, [rows] * views, [columns] * views)
    assert (labels % 2 == 0).all() and len(labels.unique()) > 3


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
@pytest.mark.parametrize(("classes", "counted"), [(7, 7), (7, 5), (300, 300)])
def test_counts_are_those_of_the_confusion_matrix(kind, classes, counted):
    values = random_logits(classes, 9, 11)
    rows, columns = whole_side(9, 36, 45), whole_side(11, 44, 37)
    target = torch.randint(0, 9, (45, 37), generator=torch.Generator().manual_seed(1)).to(kind)
    target[3:9, 4:20] = 255
    labels, counts = emulated([values], [rows], [columns], target, counted, 255)
    matrix = ConfusionMatrix(counted)
    matrix.update(labels.numpy(), target.numpy())
    np.testing.assert_array_equal(counts.numpy(), matrix.counts)
    assert counts.sum() == 45 * 37 - 6 * 16


def test_sources_outside_the_logits_read_the_nearest():
    values = random_logits(5, 3, 4)
    rows = Taps(sources=torch.tensor([[-7], [1], [99]], dtype=torch.int32), weights=torch.ones(3, 1))
    columns = Taps(sources=torch.tensor([[0], [-1], [4]], dtype=torch.int32), weights=torch.ones(3, 1))
    labels, _ = emulated([values], [rows], [columns])
    expected = values.argmax(0)[[0, 1, 2]][:, [0, 0, 3]]
    torch.testing.assert_close(labels.long(), expected)
