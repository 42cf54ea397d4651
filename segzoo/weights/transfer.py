"""One HTTP transfer into an unfinished file, going on where the last one stopped. No torch."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import requests
from tqdm import tqdm

from segzoo import __version__
from segzoo.errors import SegzooError
from segzoo.weights.formats import format_of_start
from segzoo.weights.mirror_errors import TIMEOUT_S, MirrorError, mirror_error
from segzoo.weights.partial import Partial

CHUNK_BYTES = 1 << 20
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a download is to bring, for its checks and its messages.

    Attributes:
        name: the model or data set.
        what: what is wanted, in a word.
        size: bytes that the whole file must have, where that is known.
        check_start: raises ValueError ("an HTML page") where the first bytes cannot be what is wanted.
        room: what to do about a full disk.
    """

    name: str
    what: str = "weights"
    size: int | None = None
    check_start: Callable[[bytes], object] = format_of_start
    room: str = "make room (`segzoo cache prune`) or set SEGZOO_HOME to another disk"


def receive(url: str, partial: Partial, wanted: Wanted, *, progress: bool) -> None:
    """Brings the file at `url` into `partial` until it is whole, resuming where the server allows it.

    Args:
        url: the address.
        partial: the unfinished file.
        wanted: what it is to be.
        progress: show a bar on stderr, on a terminal.

    Raises:
        MirrorError: this server does not give the file.
        SegzooError: the disk is full or not writable; what has come so far stays.
    """
    size = wanted.size
    offset, validator = partial.resumable(url)
    # Without "identity" a server may compress, and its Content-Length would not be the file's.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"segzoo/{__version__}"}
    if validator is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        with closing(requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)) as response:
            _check_status(response, wanted)
            if response.status_code == 416:
                return _settle_unsatisfiable(response, partial, offset)
            resumed = response.status_code == 206
            if resumed and not _continues(response, offset, validator):
                partial.discard()
                raise MirrorError("it resumed at another place or another version of the file", transient=True)
            total = _total_bytes(response, offset if resumed else 0) or size
            if size is not None and total != size:
                raise MirrorError(f"offers {total} bytes, the manifest says {size}", corrupt=True)
            if not resumed:
                _begin(response, url, partial)
            _check_space(partial, total, wanted)
            _append(response, partial, total, wanted, progress=progress)
    except requests.RequestException as error:
        raise mirror_error(error) from error
    except OSError as error:
        raise _disk_error(error, partial, wanted) from error
    if total is not None and partial.size < total:
        raise MirrorError(f"the connection ended after {partial.size} of {total} bytes", transient=True)


def _check_status(response: requests.Response, wanted: Wanted) -> None:
    status = response.status_code
    if status >= 400 and status != 416:
        raise MirrorError(f"HTTP {status} {response.reason or ''}".strip(), transient=status in _TRANSIENT_STATUS)
    if status not in (200, 206, 416):
        raise MirrorError(f"unexpected answer HTTP {status}")
    if status != 416 and response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise MirrorError(f"an HTML page instead of {wanted.what}")


def _settle_unsatisfiable(response: requests.Response, partial: Partial, offset: int) -> None:
    """416 says that nothing follows: then the file is whole already, or it belongs to something else."""
    whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    if whole is None or int(whole[1]) != offset:
        partial.discard()
        raise MirrorError("HTTP 416: the unfinished file does not fit this one", transient=True)


def _continues(response: requests.Response, offset: int, validator: str | None) -> bool:
    """Whether a 206 begins where we stopped; some servers ignore If-Range, so the version is compared too."""
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    version = _validator(response)
    return span is not None and int(span[1]) == offset and version in (None, validator)


def _total_bytes(response: requests.Response, offset: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    if response.headers.get("Content-Encoding", "identity") != "identity" or not length.isdecimal():
        return None
    return offset + int(length)


def _validator(response: requests.Response) -> str | None:
    """The version's name: a strong ETag, else the date. A weak ETag promises no equal bytes."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _begin(response: requests.Response, url: str, partial: Partial) -> None:
    resumable = response.headers.get("Content-Encoding", "identity") == "identity"
    partial.begin(url, _validator(response) if resumable else None)


def _check_space(partial: Partial, total: int | None, wanted: Wanted) -> None:
    needed = (total or 0) - partial.size
    free = shutil.disk_usage(partial.path.parent).free
    if needed > free:
        raise SegzooError(
            f"not enough space in {partial.path.parent}: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB free; "
            f"{wanted.room}"
        )


def _append(
    response: requests.Response, partial: Partial, total: int | None, wanted: Wanted, *, progress: bool
) -> None:
    name = partial.path.name.removesuffix(".partial")
    with (
        partial.path.open("ab") as file,
        tqdm(
            total=total,
            initial=file.tell(),
            desc=name,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            file=sys.stderr,
            disable=None if progress else True,
        ) as bar,
    ):
        for chunk in response.iter_content(CHUNK_BYTES):
            if file.tell() == 0:
                _check_start(chunk, wanted)
            file.write(chunk)
            bar.update(len(chunk))


def _check_start(chunk: bytes, wanted: Wanted) -> None:
    try:
        wanted.check_start(chunk)
    except ValueError as error:
        raise MirrorError(f"{error} instead of {wanted.what}") from error


def _disk_error(error: OSError, partial: Partial, wanted: Wanted) -> SegzooError:
    if error.errno in _FULL_DISK:
        return SegzooError(
            f"the disk of {partial.path.parent} is full; the {partial.size / 1e6:.1f} MB in {partial.path.name} are "
            f"kept and the next try goes on from there: {wanted.room}"
        )
    return SegzooError(f"cannot write {partial.path}: {error.strerror or error}")
