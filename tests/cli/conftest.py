"""A fixture that runs the command line inside the test's process, errors and exit code included."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

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
