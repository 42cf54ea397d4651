"""Starts several processes on this machine, as torchrun would, and says which of them died and at what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from segzoo import paths
from segzoo.processes.group import Store, doing_key, own_store, words_of_all

# What the others get to end by themselves after one has failed, and after they were asked to.
_GRACE_S = 5.0
_LAST_S = 30.0


@dataclass(frozen=True)
class Ending:
    """How the processes ended.

    Attributes:
        exit_code: 0, or that of the first process that failed; a killed one counts as 128 + signal.
        message: what there is to say about a process that could say nothing itself.
    """

    exit_code: int
    message: str | None = None


def start_processes(count: int, words: list[str]) -> Ending:
    """Runs `segzoo WORDS` in `count` processes on this machine.

    Signals go on to all of them. The first that fails ends the others, and its code is the result.
    """
    # Kept here, the words of all processes outlive any of them.
    store = own_store()
    children = [_start(rank, count, store.port, words) for rank in range(count)]

    def pass_on(number: int, frame: object = None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        rank, code = _wait(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            child.kill()
            child.wait()
    return Ending(code) if code >= 0 else Ending(128 - code, _obituary(rank, count, -code, words_of_all(store)))


def _start(rank: int, count: int, port: int, words: list[str]) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // count))
    variables = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        paths.SHARED_STORE: f"127.0.0.1:{port}",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }
    # A session of its own: a Ctrl-C reaches a process once, through its parent.
    return subprocess.Popen(
        [sys.executable, "-m", "segzoo", *words], env={**os.environ, **variables}, start_new_session=True
    )


def _wait(children: list[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """(rank, code) of the process that failed first, code below 0 for a signal; (0, 0) when all are done."""
    failed: tuple[int, int] | None = None
    since, asked = 0.0, False
    while True:
        codes = [child.poll() for child in children]
        if failed is None:
            # Of several that are found at once, the one that was killed: the others follow from it.
            failed = min(
                ((rank, code) for rank, code in enumerate(codes) if code), key=lambda one: one[1], default=None
            )
            since = time.monotonic()
        if all(code is not None for code in codes):
            return failed or (0, 0)
        waited = time.monotonic() - since
        if failed and waited > _GRACE_S and not asked:
            asked = True
            for child in children:
                child.terminate()
        if failed and waited > _LAST_S:
            return failed
        time.sleep(0.05)


def _obituary(rank: int, count: int, number: int, words: Store) -> str:
    at = f" at work on {words.get(doing_key(rank)).decode()}" if words.check([doing_key(rank)]) else ""
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    why = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"process {rank} of {count} was ended by {name}{why}{at}; the others were stopped"
