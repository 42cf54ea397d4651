"""A server and manifests whose data sets are to be had from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from download_server import server

__all__ = ["server"]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts data sets into the zoo, through a manifest in SEGZOO_ZOO."""
    monkeypatch.delenv("SEGZOO_OFFLINE", raising=False)

    def put(**datasets: object) -> None:
        (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"datasets": datasets}))
        # A name of its own each time: the manifest is read once a name.
        fresh = tmp_path / f"zoo-{len(list(tmp_path.glob('zoo-*.yaml')))}.yaml"
        (tmp_path / "zoo.yaml").rename(fresh)
        monkeypatch.setenv("SEGZOO_ZOO", str(fresh))

    return put
