"""Makes the modules beside these tests importable; a tiny data set and manifest for all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_training import make_manifest, make_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of 10 training and 3 validation pictures of 3 classes."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    return make_manifest(tmp_path_factory.mktemp("manifest"))


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo(manifest):
    """The models "tiny" and "tiny-plain" are known, here and in commands that are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGZOO_ZOO", str(manifest))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
