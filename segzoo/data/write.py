"""Writes label maps as PNG files of class indices, and pictures; a file is whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segzoo.errors import SegzooError


def write_indices(path: Path, indices: NDArray[Any]) -> None:
    """Writes class indices [H, W] as a grey PNG of 8 bits, or 16 where they need it; atomically.

    Raises:
        SegzooError: the file cannot be written.
    """
    wide = indices.size > 0 and int(indices.max()) > np.iinfo(np.uint8).max
    write_picture(path, Image.fromarray(indices.astype(np.uint16 if wide else np.uint8)))


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a picture as PNG, atomically.

    Raises:
        SegzooError: the file cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            picture.save(file, format="PNG")
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise SegzooError(f"cannot write {path}: {error.strerror}") from error
        raise
