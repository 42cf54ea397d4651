"""Bytes as the network's input: the compiled kernel against plain PyTorch and against float64."""

from __future__ import annotations

import pytest
import torch

from segzoo.kernels import native
from segzoo.kernels.training_crop import normalised_crops
from segzoo.kernels.training_crop_reference import normalised_crops as reference
from segzoo.protocol import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture(scope="module", autouse=True)
def compiled():
    native.load()
    if not native.is_loaded("training_crop"):
        pytest.skip("no compiler here, or SEGZOO_KERNELS=reference")


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (5, 10), (2, 16), (7, 61)])
def test_bytes_are_normalised_and_the_padding_is_zero(size, channels_last):
    height, width = size
    crops = torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8)
    extents = torch.tensor([[height, width], [max(1, height - 1), max(1, width // 2)], [0, 0]])
    given = normalised_crops(crops, extents, IMAGENET_MEAN, IMAGENET_STD, channels_last=channels_last)
    expected = (crops.double() - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    for place, (rows, columns) in enumerate(extents.tolist()):
        expected[place, rows:] = 0
        expected[place, :, columns:] = 0
    assert given.shape == (3, 3, height, width) and given.dtype == torch.float32
    assert given.permute(0, 2, 3, 1).is_contiguous() if channels_last else given.is_contiguous()
    torch.testing.assert_close(given.double(), expected.permute(0, 3, 1, 2), rtol=1e-6, atol=1e-6)
    plain = reference(crops, extents, list(IMAGENET_MEAN), list(IMAGENET_STD), channels_last)
    assert torch.equal(given, plain.permute(0, 3, 1, 2) if channels_last else plain)


def test_what_the_operator_does_not_take_is_named():
    crops, extents = torch.zeros(2, 4, 5, 3, dtype=torch.uint8), torch.tensor([[4, 5], [4, 5]])
    statistics = IMAGENET_MEAN, IMAGENET_STD
    for wrong in (crops.float(), crops[..., :2], crops.transpose(1, 2)):
        with pytest.raises(RuntimeError, match="crops must be contiguous uint8"):
            normalised_crops(wrong, extents, *statistics, channels_last=False)
    for wrong in (extents.int(), extents[:1], extents.T):
        with pytest.raises(RuntimeError, match="extents must be contiguous int64"):
            normalised_crops(crops, wrong, *statistics, channels_last=False)
    with pytest.raises(RuntimeError, match="sample 1 is larger than the crops"):
        normalised_crops(crops, torch.tensor([[4, 5], [4, 6]]), *statistics, channels_last=True)


def test_opcheck_passes():
    crops, extents = torch.zeros(2, 4, 5, 3, dtype=torch.uint8), torch.tensor([[4, 5], [2, 5]])
    for channels_last in (False, True):
        arguments = (crops, extents, list(IMAGENET_MEAN), list(IMAGENET_STD), channels_last)
        torch.library.opcheck(torch.ops.segzoo.normalised_crops.default, arguments)
