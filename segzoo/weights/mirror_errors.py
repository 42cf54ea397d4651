"""Why a mirror did not give its file, in a few words, and whether trying again may help. No torch."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import requests
import urllib3.exceptions

# Seconds without a connection, and seconds without a byte, after which a server counts as dead.
TIMEOUT_S = (15.0, 60.0)

_BROKEN_OFF = (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError)


class MirrorError(Exception):
    """This mirror does not give the file; the message is the reason in a few words.

    Attributes:
        transient: trying again may help.
        corrupt: it gave a file, but a wrong one.
    """

    def __init__(self, reason: str, *, transient: bool = False, corrupt: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient
        self.corrupt = corrupt


def mirror_error(error: requests.RequestException) -> MirrorError:
    """A failed request as a MirrorError.

    A connection that breaks off or falls silent may come back; a refused port or an unknown host will not.
    """
    broken_off = any(isinstance(cause, _BROKEN_OFF) for cause in _causes(error))
    return MirrorError(_reason(error), transient=broken_off and not isinstance(error, requests.ConnectTimeout))


def _reason(error: requests.RequestException) -> str:
    """requests' own text is a nest of class names: only its innermost cause says something."""
    for kind, words in (
        (requests.ConnectTimeout, f"no connection within {TIMEOUT_S[0]:g} s"),
        (requests.exceptions.SSLError, "its TLS certificate was not accepted"),
        (requests.exceptions.ProxyError, "the proxy gave no connection"),
        (requests.TooManyRedirects, "too many redirects"),
    ):
        if isinstance(error, kind):
            return words
    for cause in _causes(error):
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            return f"silent for {TIMEOUT_S[1]:g} s"
        if isinstance(cause, socket.gaierror):
            return "host not found"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        return "the connection was cut"
    return " ".join(str(error).split())


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first; urllib3 hides causes in `reason` and in `args`."""
    cause: object = error
    while isinstance(cause, BaseException):
        yield cause
        inner = [getattr(cause, "reason", None), *reversed(cause.args), cause.__cause__, cause.__context__]
        cause = next((item for item in inner if isinstance(item, BaseException)), None)
