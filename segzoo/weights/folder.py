"""A folder as the Hugging Face Hub has it, config.json beside the weights, in place of a weights file."""

from __future__ import annotations

from pathlib import Path

from segzoo.errors import IntegrityError

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")


def checkpoint_file(path: Path) -> Path:
    """`path` itself, or the weights file in it where it is a folder.

    Raises:
        IntegrityError: a folder without one, or with weights in several parts.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in WEIGHTS_FILES:
        if (path / name).is_file():
            return path / name
    if any((path / f"{name}.index.json").is_file() for name in WEIGHTS_FILES):
        raise IntegrityError(f"{path} has its weights in several parts, which is not supported; join them in one file")
    raise IntegrityError(f"{path} is a folder without {' or '.join(WEIGHTS_FILES)}")
