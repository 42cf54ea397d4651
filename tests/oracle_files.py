"""Where recorded facts and real data lie: tests/oracles in every clone, ../shared only beside some."""

from __future__ import annotations

from pathlib import Path

import pytest

ORACLES = Path(__file__).parent / "oracles"
SHARED = Path(__file__).resolve().parents[2] / "shared"


def oracle(path: str) -> Path:
    """A recorded fact: from tests/oracles, else from ../shared/oracles, else the test is skipped."""
    for folder in (ORACLES, SHARED / "oracles"):
        if (folder / path).exists():
            return folder / path
    pytest.skip(f"recorded fact {path} is neither in tests/oracles nor in ../shared/oracles")


def shared_data(path: str) -> Path:
    """Real data from ../shared/data; the test is skipped where it is absent."""
    found = SHARED / "data" / path
    if not found.exists():
        pytest.skip(f"needs ../shared/data/{path}, which is not here")
    return found
