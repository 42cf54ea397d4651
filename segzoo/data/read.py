"""Reads images and labels from files as the published tool chain does, and refuses what it would get silently wrong."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segzoo.data.png import SIGNATURE, byte_png, png_fault
from segzoo.errors import DatasetError

_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_GREY_OF_8_BITS = b"\x08\x00"
_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
_COLOUR_MODES = ("RGB", "RGBA", "P")


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """The picture in a file: uint8 RGB [H, W, 3], as OpenCV's colour decoding gives it.

    EXIF orientation is applied, an alpha channel is dropped without compositing, grey is repeated, of
    16 bits the upper 8 are kept: what published figures were measured with. A file of which a part is
    missing is an error, though OpenCV would fill the rest with grey.

    Raises:
        DatasetError: no such file, not an image, or a truncated or corrupt one.
    """
    return decode_image(_read_bytes(Path(path)), str(path))


def decode_image(data: bytes, path: str) -> NDArray[np.uint8]:
    """The picture in the bytes of a file; see `read_image`. `path`: the file, for messages.

    Raises:
        DatasetError: not an image, or a truncated or corrupt one.
    """
    _check_not_empty(data, path)
    if fault := _fault(data):
        raise DatasetError(f"the image {path} is {fault}; get the file anew")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DatasetError(f"the image {path} cannot be decoded: {' '.join(str(error).split())}") from error
    if image is None:
        raise DatasetError(f"{path} is not an image that can be decoded, or a corrupt one; get the file anew")
    return image  # type: ignore[return-value]


def read_label(path: str | Path) -> NDArray[Any]:
    """The values of a label file as they are stored: an integer array [H, W], uint8 for files of 8 bits.

    A palette PNG gives its indices, not its colours. EXIF orientation is not applied.

    Raises:
        DatasetError: no such file, truncated, corrupt, lossy, or with more than one channel.
    """
    return decode_label(_read_bytes(Path(path)), str(path))


def decode_label(data: bytes, path: str) -> NDArray[Any]:
    """The values of a label in the bytes of its file; see `read_label`. `path`: the file, for messages.

    Raises:
        DatasetError: truncated, corrupt, lossy, or with more than one channel.
    """
    mode, values = _decoded(data, path, _LABEL_MODES)
    if values is None:
        raise DatasetError(f"the label {path} has mode {mode}, not one channel of indices; convert it to a grey PNG")
    return values.astype(np.uint8) if mode == "1" else values.astype(values.dtype.newbyteorder("="), copy=False)


def decode_colours(data: bytes, path: str) -> NDArray[np.uint8]:
    """The colours RGB [H, W, 3] of a label that shows classes in colours; a palette's indices become its colours.

    Raises:
        DatasetError: truncated, corrupt, lossy, or without colours of 8 bits.
    """
    mode, values = _decoded(data, path, _COLOUR_MODES, convert="RGB")
    if values is None:
        raise DatasetError(f"the label {path} has mode {mode}, not colours; store it as an RGB or palette PNG")
    return values


def _decoded(
    data: bytes, path: str, modes: tuple[str, ...], convert: str | None = None
) -> tuple[str, NDArray[Any] | None]:
    """(Pillow's mode, the values where it is one of `modes`) of a label."""
    _check_not_empty(data, path)
    if data.startswith(_JPEG):
        raise DatasetError(f"the label {path} is a JPEG, whose values are not exact; store labels as PNG")
    if fault := _fault(data):
        raise DatasetError(f"the label {path} is {fault}; get the file anew")
    if convert is None and (quick := _one_byte_a_pixel(data)) is not None and quick[0] in modes:
        return quick
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode not in modes:
                return mode, None
            return mode, np.array(image.convert(convert) if convert else image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"the label {path} cannot be decoded: {error}") from error


def _check_not_empty(data: bytes, path: str) -> None:
    if not data:
        raise DatasetError(f"{path} is empty (0 bytes); get the file anew")


def _one_byte_a_pixel(data: bytes) -> tuple[str, NDArray[np.uint8]] | None:
    """Pillow's mode and the values of a plain PNG, by whatever is quicker than Pillow here; None for other files."""
    if (quick := byte_png(data)) is not None:
        return quick
    if not data.startswith(SIGNATURE) or data[24:26] != _GREY_OF_8_BITS:
        return None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 2 or values.dtype != np.uint8:
        return None
    return "L", values  # type: ignore[return-value]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}") from None
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error


def _fault(data: bytes) -> str | None:
    """What is wrong with the bytes of a file, "truncated" or "corrupt", as far as its format tells."""
    if data.startswith(_JPEG):
        return _jpeg_fault(data)
    if data.startswith(SIGNATURE):
        return png_fault(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except UnidentifiedImageError:
        return None  # OpenCV may know the format.
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        return f"truncated or corrupt ({error})"
    return None


def _jpeg_fault(data: bytes) -> str | None:
    """Walks the segments to the first scan and looks for the end marker from there on.

    A scan escapes its 0xff, so that what looks like the marker is one; before the scan it may belong to
    a thumbnail in the metadata.
    """
    position = 2
    while True:
        header = data[position : position + 4]
        if len(header) < 4:
            return "truncated (it ends before the picture begins)"
        if header[0] != 0xFF:
            return f"corrupt (no JPEG marker at byte {position})"
        if header[1] == 0xFF:  # Padding before a marker.
            position += 1
            continue
        position += 2 + int.from_bytes(header[2:], "big")
        if header[1] == _START_OF_SCAN:
            break
    # Most files end with it, and a search through all of one takes its time.
    if (data.endswith(_JPEG_END) and position <= len(data) - 2) or data.find(_JPEG_END, position) >= 0:
        return None
    return f"truncated (its {len(data)} bytes stop inside the picture)"
