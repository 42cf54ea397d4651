"""`segzoo data prepare` as a person meets it."""

from __future__ import annotations

import json
import sys

import pytest
from archives import zip_folder
from colour_model import write_set
from download_server import Page


@pytest.fixture
def segzoo(monkeypatch, capsys):
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    from segzoo.cli.app import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["segzoo", *words])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def things(server, manifest, tmp_path):
    """A data set of 3 pairs on the server."""
    server.pages["/things.zip"] = Page(zip_folder(write_set(tmp_path / "made", 3), tmp_path / "t.zip").read_bytes())
    words = {"name": "things.zip", "take": {"images": "images", "labels": "labels"}}
    manifest(
        things={
            "splits": {"val": {"images": "images", "labels": "labels", "count": 3}},
            "classes": ["one", "two", "three"],
            "licence": "for tests alone",
            "source": "https://example.org",
            "archives": [words | {"url": [server.url("/things.zip")]}],
        },
        registered={
            "splits": {"val": {"images": "images", "labels": "labels"}},
            "classes": ["one"],
            "licence": "ask first",
            "archives": [words | {"page": "https://example.org/register"}],
        },
    )
    return server


def test_the_licence_is_shown_and_has_to_be_accepted(segzoo, things, tmp_path):
    code, out, err = segzoo("data", "prepare", "things", "--root", str(tmp_path / "root"))
    assert code == 2 and out == "" and "for tests alone" in err
    assert err.splitlines()[-1].endswith("say --yes to accept it and download")
    assert things.requests == []
    code, out, err = segzoo("data", "prepare", "things", "--root", str(tmp_path / "root"), "--yes", "--json")
    assert code == 0 and json.loads(out)["metrics"]["pairs"] == 3
    code, out, err = segzoo("data", "prepare", "things", "--root", str(tmp_path / "root"))
    assert code == 0 and "there is nothing to do" in err and len(things.requests) == 1
    assert "val" in out and "for tests alone" in out


def test_a_dry_run_says_what_would_come_and_writes_nothing(segzoo, things, tmp_path):
    code, out, err = segzoo("data", "prepare", "things", "--root", str(tmp_path / "root"), "--dry-run")
    assert code == 0 and "download" in out and "/things.zip" in err
    assert not (tmp_path / "root").exists() and things.requests == []


def test_what_to_fetch_by_hand_is_said_in_full_and_the_exit_code_is_5(segzoo, things, tmp_path):
    code, _, err = segzoo("data", "prepare", "registered", "--root", str(tmp_path / "root"))
    assert code == 5
    assert "fetch by hand: https://example.org/register gives it after registration" in err
    assert f"put it at {tmp_path / 'root/downloads/things.zip'}" in err
    assert err.splitlines()[-1].startswith("segzoo: error: registered is given only to people who have registered")


def test_offline_is_a_network_error(segzoo, things, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    code, _, err = segzoo("data", "prepare", "things", "--root", str(tmp_path / "root"), "--yes")
    assert code == 3 and "the network is switched off" in err
