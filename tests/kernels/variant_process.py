"""Runs Python in a process of its own on one processor variant of the kernels, which are loaded once a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_FRAME = """
import sys
sys.path[:0] = {path}
from segzoo import kernels
kernels.load()
print(kernels.describe())
{code}
"""


def words_printed(code: str, variant: str) -> list[str]:
    """The words that the code prints on the variant ("portable", "avx2"); skips where the processor lacks it."""
    whole = _FRAME.format(path=repr([str(Path(__file__).parent), *sys.path]), code=code)
    environment = {**os.environ, "SEGZOO_CPU_VARIANT": variant}
    result = subprocess.run([sys.executable, "-c", whole], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    runs, *lines = result.stdout.splitlines()
    if runs != f"native ({variant})":
        pytest.skip(f"this processor has no {variant} variant: {runs}")
    return " ".join(lines).split()
