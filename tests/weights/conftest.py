"""A server, a cache of its own and manifests that point to the server, for each test."""

from __future__ import annotations

import io
import os
import random
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from download_server import MIB, server

from segzoo.registry import entry
from segzoo.zoo.schema import Model

__all__ = ["server"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fresh, empty cache of weights."""
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


MakeModel = Callable[..., Model]


@pytest.fixture
def make_model(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModel:
    """Adds a model with given weights to the zoo, through a manifest in SEGZOO_ZOO, and returns its entry."""

    def make(*urls: str, name: str = "a-model", **weights: object) -> Model:
        manifest = tmp_path / f"{name}-{len(list(tmp_path.glob('*.yaml')))}.yaml"
        sections = {
            "datasets": {"a-set": {"classes": ["one", "two"]}},
            "protocols": {"a-protocol": {"mode": "whole"}},
            "models": {
                name: {
                    "architecture": {
                        "backbone": {"type": "nat", "embed_dim": 16, "num_heads": [1] * 4, "depths": [1] * 4}
                        | {"kernel_size": 3, "mlp_ratio": 1.0},
                        "head": {"type": "upernet", "channels": 8},
                    },
                    "dataset": "a-set",
                    "num_classes": 2,
                    "protocol": "a-protocol",
                    "weights": [{"url": list(urls), **weights}] if urls else [],
                }
            },
        }
        manifest.write_text(yaml.safe_dump(sections))
        known = os.environ.get("SEGZOO_ZOO")
        monkeypatch.setenv("SEGZOO_ZOO", os.pathsep.join([known, str(manifest)] if known else [str(manifest)]))
        return entry(name)

    return make


@pytest.fixture(scope="session")
def weights_bytes() -> bytes:
    """About 3 MiB that look like a file of torch.save: a zip, not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data/0", random.Random(0).randbytes(3 * MIB))
    return buffer.getvalue()


@pytest.fixture
def closed_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
