"""`segzoo replay`: every option that decides a figure comes back, option by option."""

from __future__ import annotations

import json
from inspect import signature

import pytest
import typer
from own_manifest import forget_manifest
from own_manifest import words as evaluation_of
from record_samples import outcome
from replayed_options import COMMANDS, HOW_IT_IS_SHOWN, NOT_REPLAYED

from segzoo.cli.app import app
from segzoo.profiling.latency import Latency


def parameters_of(command: str) -> set[str]:
    """Names of the parameters of a command as Typer has them."""
    return {parameter.name for parameter in typer.main.get_command(app).commands[command].params} - {"help"}


def test_every_command_can_be_replayed_or_there_is_a_reason_why_not():
    known = set(typer.main.get_command(app).commands)
    assert known == set(COMMANDS) | set(NOT_REPLAYED)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_given_back_or_there_is_a_reason_why_not(command):
    tried = {name for call in COMMANDS[command].calls for name in call}
    assert not tried & set(COMMANDS[command].not_given_back)
    # Of the reasons shared by all commands, some are of options that this one does not have.
    assert parameters_of(command) == tried | (set(COMMANDS[command].not_given_back) & parameters_of(command))
    assert set(COMMANDS[command].not_given_back) - parameters_of(command) <= set(HOW_IT_IS_SHOWN)


def fake_latency(model, shape, *, batch_size, repetitions, threads, **_):
    return Latency(
        samples_ms=[1.0] * repetitions, first_call_ms=2.0, warm_up_calls=3, steady=True, batch_size=batch_size,
        threads=threads or 1, peak_memory_bytes=1, memory_scope="all",
    )  # fmt: skip


def fake_job(cell, *, static, throughput, timeout_s):
    trial = {"batch_size": 1, "images_per_second": 9.0, "peak_memory_bytes": 1}
    return outcome(1.0, trials=[trial] if throughput else [])


INSTEAD = {"measure_latency": fake_latency, "run_job": fake_job}


@pytest.fixture
def heard(monkeypatch):
    """Lets the measuring functions be listened to; the slow ones answer at once."""
    calls: list = []

    def listen(place: str) -> None:
        module, _, name = place.rpartition(".")
        real = getattr(__import__(module, fromlist=[name]), name)

        def told(*values, **named):
            given = signature(real).bind(*values, **named)
            given.apply_defaults()
            calls.append((name, {key: _plain(value) for key, value in given.arguments.items() if key not in UNLIKE}))
            return INSTEAD.get(name, real)(*values, **named)

        monkeypatch.setattr(place, told)

    def from_all(places: list[str]) -> list:
        for place in places:
            listen(place)
        return calls

    return from_all


UNLIKE = ("model", "progress", "group", "keeper", "save_predictions", "analysis")
"""Arguments that are objects of one call, or listed as not given back; an analysis stands for its measures."""


def _plain(value):
    """A setup's paths as text: whether a folder was given as one or the other makes no difference."""
    return value.words() if hasattr(value, "words") else value


@pytest.mark.parametrize(
    ("command", "number"), [(name, number) for name, item in COMMANDS.items() for number in range(len(item.calls))]
)
def test_a_replay_measures_with_what_was_chosen(segzoo_command, user, heard, monkeypatch, command, number):
    monkeypatch.chdir(user)
    monkeypatch.setattr("torch.compile", lambda model: model)
    _second_set(user)
    calls = heard(COMMANDS[command].measures)
    chosen = [word for words in COMMANDS[command].calls[number].values() for word in words]
    made = segzoo_command(command, *chosen, "-o", "record.json" if command != "bench" else "record.jsonl")
    assert made.code == 0, made
    first = list(calls)
    calls.clear()
    again = segzoo_command("replay", "record.json" if command != "bench" else "record.jsonl", "-o", "again.json")
    assert again.code == 0, again
    assert first and calls == first
    assert _commands(json.loads((user / "again.json").read_text())) == _commands(_records(user))


def _second_set(user):
    """A data set `two` with a split for training, in a folder that is not the default, and another protocol."""
    (user / "mine").rename(user / "elsewhere")
    text = (user / "zoo.yaml").read_text()
    two = "  two:\n    splits: {train: {images: images, labels: labels, count: 3}}\n    classes: [cat, dog, cow]\n"
    small = "  smaller: {mode: whole, scale: [32, 32]}\n"
    text = text.replace("datasets:\n", "datasets:\n" + two).replace("protocols:\n", "protocols:\n" + small)
    (user / "zoo.yaml").write_text(text)
    forget_manifest()


def _records(user):
    file = user / "record.json"
    return json.loads(file.read_text() if file.exists() else (user / "record.jsonl").read_text())


def _commands(records):
    records = records if isinstance(records, list) else [records]
    return [(run["command"], run["model"]["name"], run["conditions"].get("corruption")) for run in records]


def test_an_analysis_gives_back_its_measures(segzoo_command, user, monkeypatch):
    monkeypatch.chdir(user)
    assert segzoo_command(*evaluation_of(user, "--analysis", "tables", "-o", "record.json")).code == 0
    (user / "tables" / "per_class.csv").write_text("mine")
    assert segzoo_command("replay", "record.json", "-o", "again.json").code == 0
    old, new = json.loads((user / "record.json").read_text()), json.loads((user / "again.json").read_text())
    assert new["metrics"]["boundary_miou_percent"] == old["metrics"]["boundary_miou_percent"]
    assert new["metrics"]["ece_percent"] == old["metrics"]["ece_percent"]
    assert (user / "tables" / "per_class.csv").read_text() == "mine"


def test_an_evaluation_that_does_not_say_of_what_is_not_guessed(segzoo_command, user, monkeypatch):
    monkeypatch.chdir(user)
    assert segzoo_command(*evaluation_of(user, "-o", "record.json")).code == 0
    record = json.loads((user / "record.json").read_text())
    del record["conditions"]["setup"]
    (user / "record.json").write_text(json.dumps(record))
    result = segzoo_command("replay", "record.json")
    assert result.code == 2 and "as was done by: segzoo eval tiny-nat --checkpoint" in result.err


def test_counting_again_gives_the_same(segzoo_command, tmp_path):
    record = tmp_path / "record.json"
    segzoo_command("flops", "nat-mini", "nat-pico", "--shape", "64x96", "-o", str(record))
    result = segzoo_command("replay", str(record), "--fail-on-regression", "0%", "--json")
    run = json.loads(result.out)
    assert result.code == 0 and run["metrics"] == {"records": 2, "better": 0, "worse": 0, "same": 6}


def test_a_latency_is_taken_again_under_its_conditions(segzoo_command, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    monkeypatch.setattr("segzoo.profiling.latency.WARM_UP_LIMIT_S", 0.4)
    record, again = tmp_path / "record.json", tmp_path / "again.json"
    words = ["--shape", "32x48", "--repetitions", "3", "--threads", "1", "--device", "cpu", "-b", "2"]
    assert segzoo_command("latency", "nat-pico", *words, "-o", str(record)).code == 0
    assert segzoo_command("replay", str(record), "-o", str(again)).code == 0
    old, new = json.loads(record.read_text()), json.loads(again.read_text())
    same = ("shape", "device", "dtype", "threads", "scope", "samples")
    assert [old["conditions"][key] for key in same] == [new["conditions"][key] for key in same]
    assert new["started"] >= old["started"] and len(new["breakdown"]["sample"]) == 3


def test_an_evaluation_is_made_again_with_all_that_was_chosen(segzoo_command, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    record, again = tmp_path / "record.json", tmp_path / "again.json"
    words = ["--limit", "1", "--fuse", "--dtype", "bf16", "--device", "cpu"]
    assert segzoo_command("eval", "nat-pico", *words, "-o", str(record)).code == 0
    assert segzoo_command("replay", str(record), "-o", str(again)).code == 0
    old, new = json.loads(record.read_text()), json.loads(again.read_text())
    assert old["conditions"]["fuse"] and old["conditions"]["dtype"] == "bf16" and old["metrics"]["images"] == 1
    assert new["conditions"] == old["conditions"] and new["breakdown"] == old["breakdown"]
