"""The operator segzoo::png_rows: undoes the row filters of a PNG with one byte a pixel.

The filters are those of the PNG specification, third edition, section 9. A decoder spends more time on them than on
the decompression of a label map, most of which is flat; the compiled kernel takes flat parts eight pixels at a time.
The reference goes pixel by pixel: it is there to be read and to check the kernel against.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.kernels import native

_NONE, _LEFT, _ABOVE, _AVERAGE, _PAETH = range(5)

_library = torch.library.Library("segzoo", "FRAGMENT")
_library.define("png_rows(Tensor filtered, int height, int width) -> Tensor")


def png_rows(filtered: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The pixels of a PNG with one byte each.

    Args:
        filtered: uint8 [height * (1 + width)], the decompressed data: each row after the number of its filter.
        height: in pixels.
        width: in pixels.

    Returns:
        uint8 [height, width].

    Raises:
        RuntimeError: another number of bytes, or a filter that is none.
    """
    pixels: NDArray[np.uint8] = torch.ops.segzoo.png_rows(torch.from_numpy(filtered), height, width).numpy()
    return pixels


def is_compiled() -> bool:
    """Whether `png_rows` is the quick one in this process."""
    return native.is_loaded("png_rows")


def reference(filtered: Tensor, height: int, width: int) -> Tensor:
    """See `png_rows`."""
    if filtered.shape != (height * (1 + width),) or filtered.dtype != torch.uint8:
        raise RuntimeError(f"png_rows: {filtered.numel()} bytes are not {height} rows of 1 + {width}")
    rows = filtered.view(height, 1 + width).tolist()
    result: list[list[int]] = []
    upper = [0] * width
    for number, (kind, *differences) in enumerate(rows):
        if kind > _PAETH:
            raise RuntimeError(f"png_rows: row {number} has filter {kind}, not 0 to {_PAETH}")
        row: list[int] = []
        left = corner = 0
        for difference, above in zip(differences, upper, strict=True):
            left = (difference + _prediction(kind, left, above, corner)) % 256
            corner = above
            row.append(left)
        result.append(row)
        upper = row
    return torch.tensor(result, dtype=torch.uint8)


def _prediction(kind: int, left: int, above: int, corner: int) -> int:
    """What the neighbours (to the left, above, and above to the left) let one expect."""
    if kind == _PAETH:
        # Python's min takes the first of equals, in the order that the specification wants.
        return min((left, above, corner), key=lambda neighbour: abs(left + above - corner - neighbour))
    return {_NONE: 0, _LEFT: left, _ABOVE: above, _AVERAGE: (left + above) // 2}[kind]


_library.impl("png_rows", reference, "CompositeExplicitAutograd")


@torch.library.register_fake("segzoo::png_rows")
def _fake(filtered: Tensor, height: int, width: int) -> Tensor:
    return filtered.new_empty(height, width)
