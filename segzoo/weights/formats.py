"""What kind of weights file this is, told from its bytes and never from its name; no torch, nothing is loaded."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Literal

from segzoo.errors import IntegrityError

Format = Literal["zip", "pickle", "safetensors"]

# A header of more than 100 MB is refused by the safetensors library as well.
_SAFETENSORS_HEADER_LIMIT = 100_000_000
_ENOUGH = 512


def format_of_start(start: bytes) -> Format:
    """The format that a file's first bytes announce.

    Returns:
        "zip" (torch.save since 1.6), "pickle" (torch.save before) or "safetensors".

    Raises:
        ValueError: none of these; the message says what it looks like instead.
    """
    if start[:4] == b"PK\x03\x04":
        return "zip"
    if len(start) >= 2 and start[0] == 0x80 and 2 <= start[1] <= 5:
        return "pickle"
    if len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _SAFETENSORS_HEADER_LIMIT:
        return "safetensors"
    raise ValueError(describe_start(start))


def detect_format(path: Path) -> Format:
    """The format of a whole weights file; a file that was cut off is noticed where the format allows it.

    Raises:
        IntegrityError: absent, empty, truncated, an HTML page or no weights file at all.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_ENOUGH)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise IntegrityError(f"cannot read the weights file {path}: {error.strerror}") from error
    try:
        kind = format_of_start(start)
    except ValueError as error:
        raise IntegrityError(f"{path} is {error}, not a weights file") from error
    if kind == "zip" and not zipfile.is_zipfile(path):
        raise IntegrityError(f"{path} is truncated: its zip directory, which stands at the end, is missing")
    if kind == "safetensors" and size < 8 + int.from_bytes(start[:8], "little"):
        raise IntegrityError(f"{path} is truncated: it ends inside its safetensors header, after {size} bytes")
    return kind


def describe_start(start: bytes) -> str:
    """What a file with these first bytes looks like, for a message that refuses it."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        return "an empty file"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "an HTML page"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (the file itself was not fetched)"
    if text.startswith(b"{"):
        return "a JSON text"
    return f"a file that begins with {start[:8]!r}"
