"""`segzoo doctor`: what is there is told, what is broken has a cure and exit code 6."""

from __future__ import annotations

import json

import requests

from segzoo import doctor


def verdicts(result) -> dict[str, str]:
    return {row["check"]: row["verdict"] for row in json.loads(result.out)["breakdown"]["check"]}


def test_a_healthy_machine_is_told_so(segzoo_command):
    result = segzoo_command("doctor")
    assert result.code == 0 and result.err == ""
    assert "torch" in result.out and "models from" in result.out


def test_variables_that_are_set_are_shown(segzoo_command, monkeypatch):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert "SEGZOO_OFFLINE" in segzoo_command("doctor").out


def test_a_cache_that_cannot_be_written_is_bad(segzoo_command, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SEGZOO_HOME", str(blocked))
    result = segzoo_command("doctor", "--json")
    assert result.code == 6 and verdicts(result)["cache"] == "bad"
    assert result.err == "segzoo: error: not in order: cache\n"


def test_native_kernels_without_a_compiler_are_bad_and_automatic_ones_a_warning(segzoo_command, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/compiler")
    assert verdicts(segzoo_command("doctor", "--json"))["kernels"] == "warning"
    monkeypatch.setenv("SEGZOO_KERNELS", "native")
    result = segzoo_command("doctor", "--json")
    assert result.code == 6 and verdicts(result)["kernels"] == "bad"


def test_a_broken_manifest_and_an_unknown_kernel_choice_are_bad_and_the_rest_is_still_examined(
    segzoo_command, monkeypatch, tmp_path
):
    broken = tmp_path / "mine.yaml"
    broken.write_text("models: {x: {architecture: 1}}")
    monkeypatch.setenv("SEGZOO_ZOO", str(broken))
    monkeypatch.setenv("SEGZOO_KERNELS", "fast")
    result = segzoo_command("doctor", "--json")
    found = verdicts(result)
    assert result.code == 6
    assert (found["zoo"], found["kernels"], found["cache"], found["torch"]) == ("bad", "bad", "ok", "ok")


def test_online_asks_each_host_once_and_an_unreachable_one_is_a_warning(segzoo_command, monkeypatch):
    asked = []

    def head(url, **_):
        asked.append(url)
        if "shi-labs" in url:
            raise requests.ConnectionError("no route")
        response = requests.Response()
        response.status_code = 404
        return response

    monkeypatch.setattr(requests, "head", head)
    result = segzoo_command("doctor", "--online", "--json")
    found = verdicts(result)
    assert result.code == 0 and len(asked) == len(set(asked)) > 1
    assert found["https://shi-labs.com"] == "warning" and found["http://ix.cs.uoregon.edu"] == "ok"


def test_an_old_torch_is_bad(monkeypatch):
    versions = {"torch": "2.9.1"}
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda package: versions.get(package, "1.0"))
    rows = {row["check"]: row for row in doctor._torch()}
    assert rows["torch"]["verdict"] == "bad" and "2.10" in rows["torch"]["hint"]
    assert rows["timm"]["verdict"] == "ok"
