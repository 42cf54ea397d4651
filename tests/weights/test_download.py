"""Fetching weights: mirrors, hashes, records and the ways a server can disappoint."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from pathlib import Path

import pytest
from download_server import Page

from segzoo import paths
from segzoo.errors import IntegrityError, NetworkError, SegzooError, UsageError
from segzoo.weights import mirror_errors, transfer
from segzoo.weights.download import fetch
from segzoo.weights.records import read_record, record_path, weights_sha256
from segzoo.weights.sources import cache_path, hash_in_name


def test_a_file_is_downloaded_recorded_and_not_asked_for_again(server, make_model, cache, weights_bytes):
    server.pages["/zoo/net.pth"] = Page(weights_bytes)
    model = make_model(server.url("/zoo/net.pth"))
    path = fetch("a-model", model)
    assert path.read_bytes() == weights_bytes
    assert path == cache / f"127.0.0.1_{server.port}" / "zoo" / "net.pth"
    record = read_record(path)
    assert record.sha256 == hashlib.sha256(weights_bytes).hexdigest() == weights_sha256(path)
    assert (record.url, record.bytes) == (server.url("/zoo/net.pth"), len(weights_bytes))
    assert fetch("a-model", model) == path
    assert len(server.requests) == 1
    leftovers = {item.name for item in path.parent.iterdir()} - {"net.pth", "net.pth.segzoo.json", ".net.pth.lock"}
    assert leftovers == set()


def test_the_file_gets_the_permissions_that_the_umask_gives(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    before = os.umask(0o027)
    try:
        path = fetch("a-model", make_model(server.url("/net.pth")))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_redirect_is_followed(server, make_model, weights_bytes):
    server.pages["/old.pth"] = Page(moved_to="/new.pth")
    server.pages["/new.pth"] = Page(weights_bytes)
    assert fetch("a-model", make_model(server.url("/old.pth"))).read_bytes() == weights_bytes


def test_a_server_that_compresses_unasked_is_understood(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(gzip.compress(weights_bytes, 1), encoding="gzip")
    path = fetch("a-model", make_model(server.url("/net.pth"), bytes=len(weights_bytes)))
    assert path.read_bytes() == weights_bytes


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(b"gone", status=404), "HTTP 404 Not Found"),
        (Page(b"oops", status=500), "HTTP 500 Internal Server Error"),
        (Page(b"PK\x03\x04 cut", cut_after=[0] * 9), "the connection was cut"),
        (Page(b"<!DOCTYPE html><p>moved", content_type="text/html; charset=utf-8"), "an HTML page instead of weights"),
        (Page(b"\n<html>login"), "an HTML page instead of weights"),
        (Page(b'{"error": "quota"}'), "a JSON text instead of weights"),
        (Page(b"version https://git-lfs.github.com/spec/v1"), "a Git LFS pointer"),
        (Page(b""), "an empty file"),
    ],
)
def test_the_next_mirror_is_tried_and_the_failed_one_named(
    server, make_model, weights_bytes, cache, capsys, page, reason
):
    server.pages["/bad.pth"] = page
    server.pages["/good.pth"] = Page(weights_bytes)
    path = fetch("a-model", make_model(server.url("/bad.pth"), server.url("/good.pth")))
    assert path.read_bytes() == weights_bytes
    assert reason in capsys.readouterr().err
    assert not list(cache.rglob("*.partial*"))


def test_all_mirrors_failing_is_one_line_with_each_mirror_and_its_reason(server, make_model, closed_port, cache):
    refused = f"http://127.0.0.1:{closed_port}/net.pth"
    server.pages["/page.pth"] = Page(b"<html>", content_type="text/html")
    urls = [refused, server.url("/missing.pth"), server.url("/page.pth"), "ftp://127.0.0.1/net.pth"]
    with pytest.raises(NetworkError) as caught:
        fetch("a-model", make_model(*urls))
    message = str(caught.value)
    assert message.startswith("a-model: no mirror gave the weights: ")
    assert f"{refused}: connection refused" in message
    assert f"{urls[1]}: HTTP 404 Not Found" in message
    assert f"{urls[2]}: an HTML page instead of weights" in message
    assert urls[3] in message and "\n" not in message
    assert not [item for item in cache.rglob("*") if item.is_file() and not item.name.startswith(".")]


def test_a_busy_server_is_asked_again(server, make_model, weights_bytes):
    class Busy(Page):
        """503 twice, then the file."""

        def __getattribute__(self, name):
            if name == "status":
                return 503 if len(server.requests) < 3 else 200
            return super().__getattribute__(name)

    server.pages["/net.pth"] = Busy(weights_bytes)
    assert fetch("a-model", make_model(server.url("/net.pth"))).read_bytes() == weights_bytes
    assert len(server.requests) == 3


def test_a_silent_server_times_out_and_says_so(server, make_model, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT_S", (1.0, 0.2))
    monkeypatch.setattr(mirror_errors, "TIMEOUT_S", (1.0, 0.2))
    server.pages["/net.pth"] = Page(b"PK\x03\x04" + bytes(1 << 19), seconds_per_mib=4.0)
    with pytest.raises(NetworkError, match=r"silent for 0\.2 s"):
        fetch("a-model", make_model(server.url("/net.pth")))


@pytest.mark.parametrize("digits", [8, 16, 64])
def test_a_hash_in_the_manifest_may_be_cut_short_and_is_enforced(server, make_model, weights_bytes, digits):
    server.pages["/net.pth"] = Page(weights_bytes)
    right = hashlib.sha256(weights_bytes).hexdigest()[:digits]
    assert fetch("a-model", make_model(server.url("/net.pth"), sha256=right)).is_file()
    wrong = "0" * digits
    with pytest.raises(IntegrityError, match=f"expected is {wrong}"):
        fetch("b-model", make_model(server.url("/net.pth?b"), name="b-model", sha256=wrong))


def test_a_wrong_hash_in_the_file_name_is_an_error_and_the_file_is_removed(server, make_model, weights_bytes, cache):
    server.pages["/net-0badc0de.pth"] = Page(weights_bytes)
    with pytest.raises(IntegrityError) as caught:
        fetch("a-model", make_model(server.url("/net-0badc0de.pth")))
    assert "expected is 0badc0de" in str(caught.value)
    assert hashlib.sha256(weights_bytes).hexdigest()[:8] in str(caught.value)
    assert not list(cache.rglob("net*"))


def test_a_mirror_with_a_wrong_file_is_passed_over_for_one_with_the_right_one(server, make_model, weights_bytes):
    server.pages["/bad.pth"] = Page(b"PK\x03\x04 something else")
    server.pages["/good.pth"] = Page(weights_bytes)
    right = hashlib.sha256(weights_bytes).hexdigest()
    model = make_model(server.url("/bad.pth"), server.url("/good.pth"), sha256=right.upper())
    assert fetch("a-model", model).read_bytes() == weights_bytes


def test_a_size_that_is_not_the_manifests_is_refused_before_the_body(server, make_model, weights_bytes, cache):
    server.pages["/net.pth"] = Page(weights_bytes)
    with pytest.raises(IntegrityError, match=f"offers {len(weights_bytes)} bytes, the manifest says 12"):
        fetch("a-model", make_model(server.url("/net.pth"), bytes=12))
    assert not list(cache.rglob("net*"))


def test_without_a_known_hash_a_later_download_is_compared_with_the_first(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    model = make_model(server.url("/net.pth"))
    path = fetch("a-model", model)
    path.unlink()
    assert fetch("a-model", model) == path
    path.unlink()
    server.pages["/net.pth"] = Page(weights_bytes + b"PK\x05\x06" + bytes(18), version='"two"')
    with pytest.raises(IntegrityError) as caught:
        fetch("a-model", model)
    assert "the first download" in str(caught.value) and str(record_path(path)) in str(caught.value)
    assert not path.exists()
    record_path(path).unlink()
    assert fetch("a-model", model).stat().st_size == len(weights_bytes) + 22


def test_without_a_known_hash_the_first_download_binds_mirrors_of_the_same_file_name_alone(
    server, make_model, weights_bytes, capsys
):
    other = weights_bytes + b"PK\x05\x06" + bytes(18)
    server.pages["/net.bin"] = Page(weights_bytes)
    model = make_model(server.url("/net.bin"), server.url("/mirror/net.bin"), server.url("/net.safetensors"))
    path = fetch("a-model", model)
    path.unlink()
    # The first mirror is gone, the second has other bytes under its name, the third another file of the weights.
    server.pages.clear()
    server.pages |= {"/mirror/net.bin": Page(other), "/net.safetensors": Page(other)}
    assert fetch("a-model", model) == path and path.read_bytes() == other
    said = capsys.readouterr().err
    assert "/mirror/net.bin: its file has sha256" in said and "the first download" in said
    assert read_record(path).url == server.url("/net.safetensors")


def test_a_file_that_was_changed_in_the_cache_is_an_error_that_tells_the_cure(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    model = make_model(server.url("/net.pth"))
    path = fetch("a-model", model)
    damaged = bytearray(weights_bytes)
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(IntegrityError, match=r"has changed since .* download a-model --force"):
        fetch("a-model", model)


def test_a_file_that_was_only_touched_is_accepted_after_hashing_it_once(server, make_model, weights_bytes, cache):
    server.pages["/net.pth"] = Page(weights_bytes)
    model = make_model(server.url("/net.pth"))
    path = fetch("a-model", model)
    first = read_record(path)
    os.utime(path, (1, 1))
    assert fetch("a-model", model) == path
    second = read_record(path)
    assert (second.mtime_ns, second.date, second.url) == (1_000_000_000, first.date, first.url)
    assert len(server.requests) == 1


def test_offline_with_nothing_cached_names_the_place_and_a_file_put_there_by_hand_is_used(
    make_model, weights_bytes, monkeypatch
):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    model = make_model("https://weights.invalid/zoo/net.pth")
    place = cache_path("https://weights.invalid/zoo/net.pth")
    with pytest.raises(NetworkError) as caught:
        fetch("a-model", model)
    assert str(place) in str(caught.value)
    assert not place.parent.exists()
    place.parent.mkdir(parents=True)
    place.write_bytes(weights_bytes)
    assert fetch("a-model", model) == place
    assert read_record(place).url is None


def test_a_page_saved_by_a_browser_into_the_cache_is_refused(make_model):
    model = make_model("https://weights.invalid/net.pth")
    place = cache_path("https://weights.invalid/net.pth")
    place.parent.mkdir(parents=True)
    place.write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(IntegrityError, match=f"{place} is an HTML page"):
        fetch("a-model", model)


def test_embedded_weights_are_a_file_of_the_package(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "embedded_weights", lambda name: tmp_path / name)
    model = make_model("embedded:pico.safetensors")
    with pytest.raises(IntegrityError, match="missing from the installation"):
        fetch("a-model", model)
    (tmp_path / "pico.safetensors").write_bytes(b"anything")
    assert fetch("a-model", model) == tmp_path / "pico.safetensors"


def test_a_part_without_weights_is_a_usage_error(make_model):
    with pytest.raises(UsageError, match="only weights of its model"):
        fetch("a-model", make_model("https://weights.invalid/net.pth"), part="backbone")


def test_a_cache_that_cannot_be_written_is_one_clear_error(server, make_model, tmp_path, weights_bytes, monkeypatch):
    server.pages["/net.pth"] = Page(weights_bytes)
    (tmp_path / "a file").write_text("not a folder")
    monkeypatch.setenv("SEGZOO_HOME", str(tmp_path / "a file"))
    with pytest.raises(SegzooError, match=r"cannot write in .*Not a directory"):
        fetch("a-model", make_model(server.url("/net.pth")))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/fcn_r50_20200601_152021-d0272ac0.pth", "d0272ac0"),
        ("https://h/resnet50-19c8e357.pth.tar", "19c8e357"),
        ("https://h/checkpoint-20210831.pth", None),
        ("https://h/net-base.pth", None),
        ("https://h/net-d0272ac.pth", None),
    ],
)
def test_a_hash_is_found_in_a_file_name_and_a_date_is_none(url, expected):
    assert hash_in_name(url) == expected


def test_addresses_become_distinct_places_that_stay_inside_the_cache(cache):
    urls = [
        "https://h.org/a/net.pth",
        "https://h.org/b/net.pth",
        "https://h.org/download?id=1",
        "https://h.org/download?id=2",
        "https://h.org/../../../etc/passwd",
        "https://h.org/%2e%2e/%2F..%2Fx.pth",
        "https://user:secret@h.org/c/net.pth",
    ]
    places = [cache_path(url) for url in urls]
    assert len(set(places)) == len(urls)
    assert all(Path(os.path.normpath(place)).is_relative_to(cache) for place in places)
    assert not any("secret" in str(place) for place in places)
