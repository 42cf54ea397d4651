"""Brings one file from the first mirror that gives it whole: weights, or the archive of a data set. No torch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from segzoo.errors import IntegrityError, NetworkError
from segzoo.weights.mirror_errors import MirrorError
from segzoo.weights.partial import Partial
from segzoo.weights.transfer import Wanted, receive

# Tries of one mirror in a row that bring no new byte before the next mirror's turn.
FRUITLESS_TRIES = 3
PAUSE_S = 1.0

Check = Callable[[str, Partial], str]
"""Looks at a finished file from an address: returns its SHA-256, or raises MirrorError for a wrong one, which goes."""


def bring(urls: list[str], target: Path, wanted: Wanted, check: Check, *, progress: bool = True) -> tuple[str, str]:
    """(address that gave it, SHA-256) of the file that is at `target` afterwards; an unfinished one is resumed.

    The caller holds the target's lock.

    Raises:
        NetworkError: no mirror gave the file.
        IntegrityError: one gave a wrong file, none the right one.
        SegzooError: the disk is full or not writable.
    """
    failures: list[tuple[str, MirrorError]] = []
    for url in urls:
        try:
            return url, _from_mirror(url, target, wanted, check, progress=progress)
        except MirrorError as error:
            failures.append((url, error))
            if url != urls[-1]:
                say(f"{url}: {error}; trying the next mirror", progress)
    reasons = "; ".join(f"{url}: {error}" for url, error in failures)
    if any(error.corrupt for _, error in failures):
        raise IntegrityError(f"{wanted.name}: no mirror gave the right file: {reasons}")
    kept = Partial.beside(target).size
    hint = f" ({kept / 1e6:.1f} MB are kept, the next try goes on from there)" if kept else ""
    raise NetworkError(f"{wanted.name}: no mirror gave the {wanted.what}: {reasons}{hint}")


def say(message: str, progress: bool) -> None:
    """A word on stderr where words are wanted."""
    if progress:
        print(f"segzoo: {message}", file=sys.stderr)


def _from_mirror(url: str, target: Path, wanted: Wanted, check: Check, *, progress: bool) -> str:
    """Tries one mirror until the file is whole; gives up after a few tries in a row that bring nothing new."""
    partial = Partial.beside(target)
    most, fruitless = partial.resumable(url)[0], 0
    while True:
        resumed = partial.resumable(url)[0] > 0
        try:
            receive(url, partial, wanted, progress=progress)
            sha256 = _checked(url, partial, check)
            break
        except MirrorError as error:
            if error.corrupt and resumed:
                # The bytes of an earlier try may be to blame: once more, from the start.
                partial.discard()
                continue
            fruitless = 0 if partial.size > most else fruitless + 1
            most = max(most, partial.size)
            if partial.size == 0:
                partial.discard()
            if not error.transient or fruitless >= FRUITLESS_TRIES:
                raise
        time.sleep(PAUSE_S * fruitless)
    _publish(partial, target)
    return sha256


def _checked(url: str, partial: Partial, check: Check) -> str:
    """The hash of a finished download. A wrong file is removed."""
    try:
        return check(url, partial)
    except IntegrityError as error:
        partial.discard()
        raise MirrorError(str(error), corrupt=True) from error
    except MirrorError:
        partial.discard()
        raise


def _publish(partial: Partial, target: Path) -> None:
    """Gives the finished file its name, so that a reader sees nothing or all of it."""
    with partial.path.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial.path, target)
    partial.discard()
