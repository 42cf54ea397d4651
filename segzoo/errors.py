"""Every failure that a user can cause or cure, and the exit code it gives.

    SegzooError            1  failed
    ├── UsageError         2  the words of the call are wrong (unknown model, impossible shape)
    ├── NetworkError       3  no mirror answered
    ├── IntegrityError     4  wrong checksum, unsafe or corrupt file, keys that do not fit
    ├── DatasetError       5  missing, unpaired or invalid images or labels
    ├── UnavailableError   6  a kernel, device or package that this machine does not have
    └── ToleranceError     7  a check came out beyond its tolerance

Only these are shown as one line; any other exception is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SegzooError(Exception):
    """A failure with a message for the user: what is wrong, with the value, and what to do."""

    exit_code = 1


class UsageError(SegzooError):
    """The words of the call are wrong."""

    exit_code = 2


class NetworkError(SegzooError):
    """No mirror answered, or downloading is switched off."""

    exit_code = 3


class IntegrityError(SegzooError):
    """A file with a wrong checksum, unsafe or corrupt content, or keys that do not fit."""

    exit_code = 4


class DatasetError(SegzooError):
    """Images or labels that are missing, unpaired, unreadable or outside the label policy."""

    exit_code = 5


class UnavailableError(SegzooError):
    """A kernel, device or optional package that this machine does not have."""

    exit_code = 6


class ToleranceError(SegzooError):
    """A check whose difference is beyond its tolerance."""

    exit_code = 7


def demand_known(what: str, word: str, known: Iterable[str]) -> None:
    """Raises UsageError unless the word for `what` ("attention", "format") is among the known ones."""
    words = list(known)
    if word not in words:
        raise UsageError(f"unknown {what} {word!r}{suggestion(word, words)}; there are: {', '.join(words)}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x' or 'y'?" for the known words nearest to `word`, or ""."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
