"""`segzoo download`, `segzoo cache` and create_model with weights, as a user meets them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from download_server import MIB, Page

from segzoo.errors import IntegrityError, UsageError
from segzoo.registry import create_model
from segzoo.weights.cache import list_cache, verify_cache
from segzoo.weights.download import fetch
from segzoo.weights.partial import Partial
from segzoo.weights.records import record_path
from segzoo.weights.sources import cache_path


def segzoo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "segzoo", *words], capture_output=True, text=True, timeout=60)


def assert_one_line(done, code, *parts):
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("segzoo: error: ") and done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_download_prints_a_record_and_the_second_time_says_cached(server, make_model, weights_bytes, tmp_path):
    server.pages["/net.pth"] = Page(weights_bytes)
    make_model(server.url("/net.pth"))
    first = segzoo("download", "a-model", "--json", "-o", str(tmp_path / "run.json"))
    run = json.loads(first.stdout)
    assert (run["command"], run["status"], run["metrics"]["bytes"]) == ("download", "ok", len(weights_bytes))
    assert run["conditions"]["state"] == "downloaded" and len(run["conditions"]["sha256"]) == 64
    assert json.loads((tmp_path / "run.json").read_text()) == run
    assert first.stderr == ""
    again = segzoo("download", "a-*")
    assert again.returncode == 0 and "cached" in again.stdout
    assert len(server.requests) == 1


def test_one_failure_does_not_stop_the_others_and_gives_the_exit_code(server, make_model, weights_bytes):
    server.pages["/good.pth"] = Page(weights_bytes)
    make_model(server.url("/missing.pth"), name="x-first")
    make_model(server.url("/good.pth"), name="x-second", sha256="0" * 64)
    make_model(server.url("/good.pth?3"), name="x-third")
    done = segzoo("download", "x-*", "--json")
    assert done.returncode == 3
    assert [run["status"] for run in json.loads(done.stdout)] == ["failed", "failed", "ok"]
    assert "x-first" in done.stderr and "x-second" in done.stderr and "Traceback" not in done.stderr


def test_a_glob_leaves_out_models_without_weights_and_a_name_does_not(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    make_model(server.url("/net.pth"), name="x-full")
    make_model(name="x-bare")
    done = segzoo("download", "x-*", "--json")
    assert (done.returncode, json.loads(done.stdout)["model"]["name"]) == (0, "x-full")
    assert done.stderr == "no weights of the model are published for x-bare\n"
    assert_one_line(segzoo("download", "x-bare"), 2, "architecture only")


def test_an_empty_cache_is_said_in_words_and_is_an_empty_list_for_a_program(cache):
    assert segzoo("cache", "ls").stdout == ""
    assert json.loads(segzoo("cache", "ls", "--json").stdout) == []


def test_a_dry_run_says_what_would_happen_and_touches_nothing(server, make_model, cache):
    make_model(server.url("/net.pth"), bytes=1234)
    run = json.loads(segzoo("download", "a-model", "--dry-run", "--json").stdout)
    assert run["conditions"]["state"] == "would be downloaded" and run["metrics"]["bytes"] == 1234
    assert server.requests == [] and not cache.exists()


@pytest.mark.parametrize(
    ("page", "code", "part"),
    [
        (Page(b"<html>", content_type="text/html"), 3, "an HTML page instead of weights"),
        (Page(b"PK\x03\x04 not a zip"), 4, "truncated"),
    ],
)
def test_a_bad_download_is_one_line_and_the_documented_exit_code(server, make_model, page, code, part):
    server.pages["/net.pth"] = page
    make_model(server.url("/net.pth"))
    assert_one_line(segzoo("download", "a-model"), code, part, server.url("/net.pth"))


def test_unreachable_hosts_offline_and_unknown_names_are_one_line(make_model, closed_port):
    make_model(f"http://127.0.0.1:{closed_port}/net.pth", "http://weights.invalid/net.pth")
    assert_one_line(segzoo("download", "a-model", "--quiet"), 3, "connection refused", "weights.invalid")
    assert_one_line(segzoo("download", "a-model", "--offline"), 3, "network is switched off")
    assert_one_line(segzoo("download", "a-modle"), 2, "did you mean 'a-model'")


def test_debug_shows_the_traceback(make_model, closed_port):
    make_model(f"http://127.0.0.1:{closed_port}/net.pth")
    assert "Traceback" in segzoo("download", "a-model", "--debug").stderr


def test_force_downloads_again_and_mends_a_damaged_file(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    path = fetch("a-model", make_model(server.url("/net.pth")))
    path.write_bytes(weights_bytes[: 2 * MIB])
    assert_one_line(segzoo("download", "a-model"), 4, "--force")
    assert segzoo("download", "a-model", "--force").returncode == 0
    assert path.read_bytes() == weights_bytes


def test_a_failed_force_leaves_the_cached_file_alone(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    path = fetch("a-model", make_model(server.url("/net.pth")))
    server.pages.clear()
    assert segzoo("download", "a-model", "--force").returncode == 3
    assert path.read_bytes() == weights_bytes


def test_cache_lists_whole_unfinished_and_stray_files_with_their_models(server, make_model, weights_bytes, cache):
    server.pages["/net.pth"] = Page(weights_bytes)
    fetch("a-model", make_model(server.url("/net.pth")))
    make_model(server.url("/net.pth"), name="b-model")
    make_model("https://weights.invalid/other.pth", name="c-model")
    partial = Partial.beside(cache_path("https://weights.invalid/other.pth"))
    partial.path.parent.mkdir(parents=True)
    partial.path.write_bytes(b"PK\x03\x04")
    (cache / "stray.pth").write_bytes(b"stray")
    listed = [(run.model["name"], run.conditions["state"], run.metrics["bytes"]) for run in list_cache()]
    assert listed == [
        ("a-model, b-model", "recorded", len(weights_bytes)),
        ("(no model)", "not recorded", 5),
        ("c-model", "unfinished", 4),
    ]
    assert segzoo("cache", "ls").stdout.count("\n") == 5


def test_verify_hashes_again_and_exits_4_for_a_damaged_file_of_the_same_size_and_time(
    server, make_model, weights_bytes
):
    server.pages["/net.pth"] = Page(weights_bytes)
    path = fetch("a-model", make_model(server.url("/net.pth")))
    assert [run.conditions["state"] for run in verify_cache()] == ["unchanged"]
    assert segzoo("cache", "verify").returncode == 0
    before = path.stat()
    damaged = bytearray(weights_bytes)
    damaged[MIB] ^= 1
    path.write_bytes(damaged)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_one_line(segzoo("cache", "verify", "--json"), 4, "1 of 1 cached files", str(path))
    assert verify_cache(["another"]) == []


def test_prune_asks_first_and_removes_only_what_is_of_no_use(server, make_model, weights_bytes, cache):
    server.pages["/net.pth"] = Page(weights_bytes)
    path = fetch("a-model", make_model(server.url("/net.pth")))
    (cache / "stray.pth").write_bytes(b"stray")
    Partial.beside(path).path.write_bytes(b"PK\x03\x04")
    asked = segzoo("cache", "prune")
    assert asked.returncode == 2 and "--yes" in asked.stderr and (cache / "stray.pth").exists()
    assert "would be removed" in segzoo("cache", "prune", "--dry-run").stdout
    assert segzoo("cache", "prune", "--yes").returncode == 0
    assert path.exists() and not (cache / "stray.pth").exists() and not Partial.beside(path).path.exists()


def test_prune_of_a_model_keeps_the_recorded_hash_unless_told_to_forget(server, make_model, weights_bytes):
    server.pages["/net.pth"] = Page(weights_bytes)
    model = make_model(server.url("/net.pth"))
    path = fetch("a-model", model)
    assert segzoo("cache", "prune", "a-model", "-y").returncode == 0
    assert not path.exists() and record_path(path).exists()
    fetch("a-model", model)
    assert segzoo("cache", "prune", "--all", "--forget", "-y").returncode == 0
    assert not path.exists() and not record_path(path).exists()


def test_cache_path_names_the_folder_and_a_models_file(make_model, cache):
    make_model("https://weights.invalid/zoo/net.pth")
    assert segzoo("cache", "path").stdout == f"{cache}\n"
    assert segzoo("cache", "path", "a-model").stdout == f"{cache}/weights.invalid/zoo/net.pth\n"


def test_the_download_command_needs_no_torch():
    code = (
        "import sys, segzoo.cli.weights, segzoo.weights.runs, segzoo.weights.cache;"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_create_model_downloads_loads_and_keeps_the_report(server, make_model, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    make_model(server.url("/net.pth"))
    original = create_model("a-model")
    torch.save({"state_dict": original.state_dict(), "meta": {}}, tmp_path / "net.pth")
    server.pages["/net.pth"] = Page((tmp_path / "net.pth").read_bytes())
    model = create_model("a-model", pretrained=True)
    assert model.load_report.perfect and not model.training
    assert all(torch.equal(value, original.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(IntegrityError, match="the file has 2 classes, the model 5"):
        create_model("a-model", pretrained=True, num_classes=5)
    partly = create_model("a-model", pretrained=True, num_classes=5, strict=False)
    assert [item.key for item in partly.load_report.misshapen] == [
        "decode_head.conv_seg.weight",
        "decode_head.conv_seg.bias",
    ]
    assert len(server.requests) == 1


def test_create_model_refuses_a_pickle_with_code(make_model, tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    make_model()
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(IntegrityError, match="contains code"):
        create_model("a-model", checkpoint=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_pretrained_without_weights_is_a_usage_error(make_model):
    make_model(name="bare")
    with pytest.raises(UsageError, match="architecture only"):
        create_model("bare", pretrained=True)
