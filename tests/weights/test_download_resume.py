"""Downloads that are cut, interrupted, run twice at once or meet a full disk: nothing is lost, nothing half-written."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from download_server import MIB, Page

from segzoo.errors import IntegrityError, NetworkError, SegzooError
from segzoo.weights import transfer
from segzoo.weights.download import fetch
from segzoo.weights.partial import Partial
from segzoo.weights.sources import cache_path

USAGE = namedtuple("USAGE", "total used free")


def partial_of(server, path="/net.pth") -> Partial:
    return Partial.beside(cache_path(server.url(path)))


def cut_once(server, make_model, body, *, at=2 * MIB, **page):
    """Lets one download fail after `at` bytes, at a server that then answers 404; returns the model."""
    model = make_model(server.url("/net.pth"))
    server.pages["/net.pth"] = Page(body, cut_after=[at, 0, 0, 0, 0], **page)
    with pytest.raises(NetworkError):
        fetch("a-model", model)
    server.requests.clear()
    return model


def test_a_cut_connection_is_resumed_where_it_stopped(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes, cut_after=[MIB, MIB])
    assert fetch("a-model", make_model(server.url("/net.pth"))).read_bytes() == weights_bytes
    assert server.ranges() == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]


def test_a_server_that_always_cuts_is_given_up_and_what_came_is_kept(server, make_model, weights_bytes):
    cut_once(server, make_model, weights_bytes)
    assert partial_of(server).path.read_bytes() == weights_bytes[: 2 * MIB]
    assert not cache_path(server.url("/net.pth")).exists()


def test_the_next_call_goes_on_from_what_the_last_one_left(server, make_model, weights_bytes):
    model = cut_once(server, make_model, weights_bytes)
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", model).read_bytes() == weights_bytes
    assert server.ranges() == [f"bytes={2 * MIB}-"]
    assert not partial_of(server).path.exists() and not partial_of(server).origin_path.exists()


def test_a_file_that_changed_on_the_server_is_begun_anew(server, make_model, weights_bytes):
    model = cut_once(server, make_model, bytes(4) + weights_bytes[4:], at=0)
    model = cut_once(server, make_model, b"PK\x03\x04" + bytes(3 * MIB))
    server.pages["/net.pth"] = Page(weights_bytes, version='"two"')
    assert fetch("a-model", model).read_bytes() == weights_bytes


def test_a_server_that_ignores_if_range_does_not_mix_two_versions(server, make_model, weights_bytes):
    model = cut_once(server, make_model, b"PK\x03\x04" + bytes(3 * MIB))
    server.pages["/net.pth"] = Page(weights_bytes, version='"two"', checks_version=False)
    assert fetch("a-model", model).read_bytes() == weights_bytes
    assert server.ranges() == [f"bytes={2 * MIB}-", None]


def test_a_server_that_ignores_range_is_read_from_the_start(server, make_model, weights_bytes):
    model = cut_once(server, make_model, weights_bytes, resumes=False)
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", model).read_bytes() == weights_bytes


@pytest.mark.parametrize("version", [None, 'W/"one"'])
def test_a_server_that_names_no_version_or_only_a_weak_one_is_not_resumed(server, make_model, weights_bytes, version):
    model = cut_once(server, make_model, weights_bytes, version=version)
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", model).read_bytes() == weights_bytes
    assert server.ranges() == [None]


def test_an_unfinished_file_that_is_whole_already_is_only_checked(server, make_model, weights_bytes):
    model = cut_once(server, make_model, weights_bytes)
    partial_of(server).path.write_bytes(weights_bytes)
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", model).read_bytes() == weights_bytes
    assert server.ranges() == [f"bytes={len(weights_bytes)}-"]


def test_an_unfinished_file_that_is_too_long_is_dropped(server, make_model, weights_bytes):
    model = cut_once(server, make_model, weights_bytes)
    partial_of(server).path.write_bytes(weights_bytes + b"more")
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", model).read_bytes() == weights_bytes
    assert server.ranges() == [f"bytes={len(weights_bytes) + 4}-", None]


def test_a_damaged_unfinished_file_is_noticed_by_the_hash_and_fetched_anew(server, make_model, weights_bytes):
    cut_once(server, make_model, weights_bytes)
    model = make_model(server.url("/net.pth"), sha256=hashlib.sha256(weights_bytes).hexdigest())
    with partial_of(server).path.open("r+b") as file:
        file.write(b"PK\x03\x04damage")
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", model).read_bytes() == weights_bytes
    assert server.ranges() == [f"bytes={2 * MIB}-", None]


def test_a_dead_second_mirror_does_not_cost_what_the_first_one_gave(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes, cut_after=[2 * MIB, 0, 0, 0, 0])
    with pytest.raises(NetworkError, match=r"2\.1 MB are kept"):
        fetch("a-model", make_model(server.url("/net.pth"), server.url("/missing.pth")))
    assert partial_of(server).size == 2 * MIB


def test_a_truncated_file_is_noticed_even_when_the_server_names_no_length(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes, sends_length=False, cut_after=[MIB, MIB, MIB, MIB])
    with pytest.raises(IntegrityError, match="truncated"):
        fetch("a-model", make_model(server.url("/net.pth")))
    server.pages["/net.pth"].cut_after.clear()
    assert fetch("a-model", make_model(server.url("/net.pth"))).read_bytes() == weights_bytes


def test_too_little_space_is_told_before_the_first_byte(server, make_model, weights_bytes, monkeypatch, cache):
    server.pages["/net.pth"] = Page(weights_bytes)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: USAGE(10 * MIB, 9 * MIB, MIB))
    with pytest.raises(SegzooError, match=r"not enough space in .*: 3\.1 MB are needed, 1\.0 MB free") as caught:
        fetch("a-model", make_model(server.url("/net.pth")))
    assert caught.value.exit_code == 1
    assert not list(cache.rglob("net.pth"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_disk_that_fills_up_on_the_way_is_one_clear_error(server, make_model, weights_bytes, monkeypatch, cache):
    server.pages["/net.pth"] = Page(weights_bytes)
    monkeypatch.setattr(Partial, "begin", lambda partial, url, validator: partial.path.symlink_to("/dev/full"))
    with pytest.raises(SegzooError, match=r"the disk of .* is full; .* are kept and the next try goes on") as caught:
        fetch("a-model", make_model(server.url("/net.pth")))
    assert caught.value.exit_code == 1
    assert not list(cache.rglob("net.pth"))


def test_a_write_that_the_system_refuses_half_way_is_one_clear_line_and_is_resumed(server, make_model, weights_bytes):
    """A limit on the size of files stands for the disk: the system refuses a write half-way."""
    server.pages["/net.pth"] = Page(weights_bytes)
    make_model(server.url("/net.pth"))
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * MIB}, {2 * MIB}));"
        "from segzoo.cli.app import main; sys.argv = ['segzoo', 'download', 'a-model']; main()"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr and done.stderr.count("\n") == 1
    assert partial_of(server).path.read_bytes() == weights_bytes[: 2 * MIB]
    server.requests.clear()
    done = subprocess.run([sys.executable, "-m", "segzoo", "download", "a-model"], capture_output=True, timeout=60)
    assert done.returncode == 0
    assert server.ranges() == [f"bytes={2 * MIB}-"]


def test_two_processes_at_once_fetch_the_file_once(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes, seconds_per_mib=0.4)
    make_model(server.url("/net.pth"))
    command = [sys.executable, "-m", "segzoo", "download", "a-model", "--json"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert cache_path(server.url("/net.pth")).read_bytes() == weights_bytes
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "segzoo: interrupted\n"),
        (signal.SIGTERM, 143, "segzoo: ended by SIGTERM\n"),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_an_interrupted_download_can_be_resumed(server, make_model, weights_bytes, number, code, said):
    server.pages["/net.pth"] = Page(weights_bytes, seconds_per_mib=1.0)
    make_model(server.url("/net.pth"))
    command = [sys.executable, "-m", "segzoo", "download", "a-model"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while partial_of(server).size < MIB and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, words = process.communicate(timeout=30)
    assert process.returncode == code, words
    assert words == said
    kept = partial_of(server).size
    assert MIB <= kept < len(weights_bytes)
    assert not cache_path(server.url("/net.pth")).exists()
    server.requests.clear()
    server.pages["/net.pth"].seconds_per_mib = 0.0
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert server.ranges() == [f"bytes={kept}-"]
    assert cache_path(server.url("/net.pth")).read_bytes() == weights_bytes
