"""Reads MATLAB's MAT files of version 5 (also compressed), in which some data sets keep labels: arrays and structs.

The layout is that of MathWorks' "MAT-File Format" document; what no data set here uses (sparse arrays, objects,
complex parts) is passed over.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.errors import DatasetError

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
# Storage types of elements, and classes of arrays.
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2"
}  # fmt: skip
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"
}  # fmt: skip
_LARGEST = 1 << 30
_DEEPEST = 16


def decode_mat(data: bytes, where: str) -> dict[str, Any]:
    """The variables in the bytes of a MAT file by name.

    Numeric arrays are numpy arrays as MATLAB shapes them, a struct is a dict (an array of structs a list of
    them), a cell array a list, text a string.

    Args:
        data: the file.
        where: its place, for messages.

    Raises:
        DatasetError: no MAT file of version 5, or a damaged one.
    """
    if len(data) < _HEADER_BYTES or data[126:128] not in (b"IM", b"MI"):
        newer = data.startswith(b"MATLAB 7.3") or data[:4] == b"\x89HDF"
        what = "of version 7.3; save it with -v7" if newer else "that segzoo knows"
        raise DatasetError(f"{where} is no MAT file {what}")
    order = "<" if data[126:128] == b"IM" else ">"
    try:
        named = (_matrix(body, order, 0) for kind, body in _elements(data[_HEADER_BYTES:], order) if kind == _MATRIX)
        return dict(named)
    except (struct.error, zlib.error, ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{where} is a damaged MAT file ({error!r}); get it anew") from error


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, contents) of the elements one after the other; compressed ones are unpacked."""
    position = 0
    while position + 8 <= len(data):
        kind, count = struct.unpack_from(f"{order}II", data, position)
        if kind >> 16:
            # Up to four bytes stand in the tag itself.
            kind, count = kind & 0xFFFF, kind >> 16
            yield kind, data[position + 4 : position + 4 + count]
            position += 8
            continue
        body = data[position + 8 : position + 8 + count]
        if len(body) < count:
            raise ValueError(f"it ends inside an element of {count} bytes")
        position += 8 + count + (0 if kind == _COMPRESSED else -count % 8)
        if kind == _COMPRESSED:
            yield from _elements(_unpacked(body), order)
        else:
            yield kind, body
    if position < len(data):
        raise ValueError(f"{len(data) - position} bytes too many")


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(body, _LARGEST)
    if not unpacker.eof:
        raise ValueError("a compressed element is cut off, or larger than 1 GiB")
    return data


def _matrix(body: bytes, order: str, depth: int) -> tuple[str, Any]:
    """(name, value) of one array of any class."""
    if not body:
        return "", np.zeros((0, 0))
    if depth > _DEEPEST:
        raise ValueError(f"structs more than {_DEEPEST} deep")
    parts = _elements(body, order)
    (flags,) = struct.unpack_from(f"{order}I", _next(parts)[1])
    shape = tuple(int(side) for side in np.frombuffer(_next(parts)[1], f"{order}i4"))
    name = _next(parts)[1].decode("latin-1")
    kind = flags & 0xFF
    if kind in (_STRUCT, _CELL):
        return name, _composed(parts, kind, math.prod(shape), order, depth)
    if kind != _CHAR and kind not in _CLASSES:
        return name, None
    stored, content = _next(parts)
    values = np.frombuffer(content, f"{order}{_STORED[stored]}")
    if kind == _CHAR:
        return name, "".join(map(chr, values))
    return name, _shaped(values, shape, _CLASSES[kind])


def _next(parts: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    part = next(parts, None)
    if part is None:
        raise ValueError("an array ends before its contents")
    return part


def _shaped(values: NDArray[Any], shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    """MATLAB stores columns one after the other, in the smallest type that holds the numbers."""
    return values.astype(kind).reshape(shape, order="F")


def _composed(parts: Iterator[tuple[int, bytes]], kind: int, count: int, order: str, depth: int) -> Any:
    """A cell array's values as a list; a struct's fields as a dict, or a list of them."""
    if kind == _CELL:
        return [_matrix(body, order, depth + 1)[1] for _, body in parts]
    (length,) = struct.unpack(f"{order}i", _next(parts)[1])
    text = _next(parts)[1]
    fields = [text[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(text), length)]
    values = [_matrix(body, order, depth + 1)[1] for _, body in parts]
    if len(values) != count * len(fields):
        raise ValueError(f"{len(values)} values for {count} structs of {len(fields)} fields")
    if not fields:
        return {}
    rows = (values[at : at + len(fields)] for at in range(0, len(values), len(fields)))
    found = [dict(zip(fields, row, strict=True)) for row in rows]
    return found[0] if count == 1 else found
