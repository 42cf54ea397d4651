"""A command that someone ends says so in one line, with the documented exit code."""

from __future__ import annotations

import os
import signal

import pytest


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "segzoo: interrupted\n"), (signal.SIGTERM, 143, "segzoo: ended by SIGTERM\n")],
)
@pytest.mark.parametrize("words", [("kernel", "build"), ("eval", "nat-pico", "--limit", "1")])
def test_a_signal_during_the_compilation_ends_the_command(segzoo_command, monkeypatch, number, code, said, words):
    def compile_and_be_ended(*_, **__):
        os.kill(os.getpid(), number)

    monkeypatch.setattr("segzoo.kernels.build._is_whole", lambda target: False)
    monkeypatch.setattr("segzoo.kernels.build._run", compile_and_be_ended)
    monkeypatch.setattr("segzoo.kernels.native._state.libraries", {})
    result = segzoo_command(*words)
    assert (result.code, result.out) == (code, "")
    *before, last = result.err.splitlines(keepends=True)
    assert last == said and all(line.startswith("compiling ") for line in before)


def test_an_ended_process_that_is_not_the_first_leaves_the_words_to_it(segzoo_command, monkeypatch):
    left = []

    def leave(code):
        left.append(code)
        raise SystemExit(code)

    def ended(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("segzoo.cli.processes.leave", leave)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("segzoo.training.named.train_name", ended)
    segzoo_command("train", "nat-pico")
    assert left == [143]
