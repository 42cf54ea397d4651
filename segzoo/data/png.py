"""PNG files: what is wrong with one, and the values of those with one byte a pixel, quicker than through libpng."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Depth 8; grey or palette; the one compression and filter method there are; not interlaced.
_ONE_BYTE_A_PIXEL = {b"\x08\x00\x00\x00\x00": "L", b"\x08\x03\x00\x00\x00": "P"}


class _Chunk(NamedTuple):
    """A chunk of a PNG: its kind, and where its data begin and end in the file."""

    kind: bytes
    begin: int
    end: int


def png_fault(data: bytes) -> str | None:
    """What is wrong with a PNG, "truncated" or "corrupt", by its chunks and their checksums; decoders let some pass."""
    position = len(SIGNATURE)
    view = memoryview(data)
    for chunk in _chunks(data):
        (checksum,) = struct.unpack_from(">I", data, chunk.end)
        if zlib_ng.crc32(view[chunk.begin - 4 : chunk.end]) != checksum:
            return f"corrupt (wrong checksum of the PNG chunk {chunk.kind!r} at byte {chunk.begin - 8})"
        if chunk.kind == b"IEND":
            return None
        position = chunk.end + 4
    return f"truncated (its {len(data)} bytes stop inside the PNG chunk at byte {position})"


def byte_png(data: bytes) -> tuple[str, NDArray[np.uint8]] | None:
    """Pillow's mode, "L" or "P", and the values [H, W] of a PNG with one byte a pixel, as they are stored.

    None for any other file, for one that does not decode, and where the kernels are not compiled.
    """
    mode = _ONE_BYTE_A_PIXEL.get(data[24:29])
    if mode is None or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        return None
    png_rows = _compiled_rows()
    if png_rows is None:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    parts = [data[chunk.begin : chunk.end] for chunk in _chunks(data) if chunk.kind == b"IDAT"]
    size = height * (1 + width)
    try:
        # No more than belongs to the picture, whatever the file would grow to.
        filtered = zlib_ng.decompressobj().decompress(b"".join(parts), size)
        if len(filtered) != size or size == 0:
            return None
        # PyTorch does not like memory that must not be written; nothing writes to it.
        return mode, png_rows(np.frombuffer(bytearray(filtered), np.uint8), height, width)
    except (zlib_ng.error, RuntimeError):  # type: ignore[misc]
        return None


def _compiled_rows() -> Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]] | None:
    """The kernel that undoes row filters, where this process has loaded it."""
    # Kernels need PyTorch. Where nothing has imported it none is loaded, and a label is no reason to wait for it.
    if "torch" not in sys.modules:
        return None
    from segzoo.kernels.png_rows import is_compiled, png_rows

    return png_rows if is_compiled() else None


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The whole chunks of a PNG in their order, the last one included."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunk = _Chunk(data[position + 4 : position + 8], position + 8, position + 8 + length)
        if chunk.end + 4 > len(data):
            return
        yield chunk
        position = chunk.end + 4
