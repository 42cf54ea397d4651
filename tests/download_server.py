"""A file server on 127.0.0.1 with the vices of real ones, and the fixture that starts it."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import re
import threading
import time
from collections.abc import Iterator

import pytest

from segzoo.weights import mirrors

MIB = 1 << 20


@dataclasses.dataclass
class Page:
    """What the server has under one path, and how it misbehaves.

    `cut_after`: bytes of a body after which the connection is cut, one number for each answer, then no more cuts.
    `version`: the ETag; None sends none. `resumes`: whether Range is honoured; `checks_version`: whether If-Range is.
    """

    body: bytes = b""
    version: str | None = '"one"'
    status: int = 200
    content_type: str = "application/octet-stream"
    cut_after: list[int] = dataclasses.field(default_factory=list)
    resumes: bool = True
    checks_version: bool = True
    sends_length: bool = True
    encoding: str | None = None
    moved_to: str | None = None
    seconds_per_mib: float = 0.0


@dataclasses.dataclass
class Server:
    """`pages` by path; `requests` are (path, Range header) as they came."""

    port: int
    pages: dict[str, Page] = dataclasses.field(default_factory=dict)
    requests: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges(self) -> list[str | None]:
        return [span for _, span in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, state: Server, *arguments: object) -> None:
        self.state = state
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.state.requests.append((self.path, span))
        missing = Page(b"<!DOCTYPE html>no", status=404, content_type="text/html")
        page = self.state.pages.get(self.path.partition("?")[0], missing)
        if page.moved_to:
            self.send_response(302)
            self.send_header("Location", page.moved_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        wanted = self.headers.get("If-Range") == page.version or not page.checks_version
        if span and page.resumes and wanted and (match := re.fullmatch(r"bytes=(\d+)-", span)):
            start = int(match[1])
        if start and start >= len(page.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(page.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._answer(page, start)

    def _answer(self, page: Page, start: int) -> None:
        body = page.body[start:]
        self.send_response(206 if start else page.status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        self.send_header("Content-Type", page.content_type)
        if page.version:
            self.send_header("ETag", page.version)
        if page.encoding:
            self.send_header("Content-Encoding", page.encoding)
        if page.sends_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if page.cut_after:
            body = body[: page.cut_after.pop(0)]
        for first in range(0, len(body), MIB // 4):
            try:
                self.wfile.write(body[first : first + MIB // 4])
            except OSError:
                return
            time.sleep(page.seconds_per_mib / 4)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with no pages yet; pauses between tries are cut short."""
    monkeypatch.setattr(mirrors, "PAUSE_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server(0)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, state))
    state.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()
