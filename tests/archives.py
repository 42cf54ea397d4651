"""Makes archives of folders for tests."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path


def zip_folder(folder: Path, target: Path, *, inside: str = "", stored: bool = False) -> Path:
    """A zip of a folder's files, which get `inside` in front of their names."""
    method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{inside}/{path.relative_to(folder)}" if inside else path.relative_to(folder))
    return target


def tar_folder(folder: Path, target: Path, *, inside: str = ".", mode: str = "w") -> Path:
    """A tar of a folder; mode "w:gz" and the like compress it."""
    with tarfile.open(target, mode) as archive:
        archive.add(folder, inside)
    return target
