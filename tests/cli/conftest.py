"""Fixtures: the command line inside the test's process, errors and exit code included; a user with a model."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import own_manifest
import pytest


class Result(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def segzoo_command(monkeypatch, capsys) -> Iterator[Callable[..., Result]]:
    """Call it with the words after `segzoo`."""
    from segzoo.cli.app import main

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["segzoo", *words])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return Result(code, *capsys.readouterr())

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    """A folder with a manifest, a data set `mine` and weights, see own_manifest.py; segzoo knows of them."""
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    monkeypatch.setenv("SEGZOO_ZOO", str(tmp_path / "zoo.yaml"))
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path))
    own_manifest.write_all(tmp_path)
    return tmp_path
