"""`segzoo params`, `flops` and `latency` as a user types them."""

from __future__ import annotations

import csv
import io
import json

import pytest


@pytest.fixture(autouse=True)
def without_compiling_and_long_warm_up(monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    monkeypatch.setattr("segzoo.profiling.latency.WARM_UP_LIMIT_S", 0.6)


def test_flops_prints_the_published_figure_its_rule_and_the_verdict(segzoo_command):
    result = segzoo_command("flops", "nat-tiny", "--shape", "512x2048", "--check")
    row = result.out.splitlines()[2].split()
    assert result.code == 0
    assert row[:9] == ["nat-tiny", "1x3x512x2048", "fvcore", "934.1", "G", "934.0", "G", "+0.01", "%"]
    assert row[9] == "ok"
    assert result.err.startswith("rule fvcore: multiply-adds, and per element: 5 LayerNorm")


def test_flops_of_a_family_is_one_json_list_with_parts_and_what_was_not_counted(segzoo_command):
    runs = json.loads(segzoo_command("flops", "nat-*i*", "nat-tiny", "--json", "--quiet").out)
    names = [run["model"]["name"] for run in runs]
    assert names[:2] == ["nat-mini", "nat-tiny"] and len(names) == len(set(names))
    mini = runs[0]
    assert mini["metrics"]["macs_by_rule"] == 900487907328
    assert mini["metrics"]["flops"] == 2 * mini["metrics"]["macs"]
    assert mini["conditions"]["rule"] == "fvcore" and mini["conditions"]["shape"] == [1, 3, 512, 2048]
    assert [row["part"] for row in mini["breakdown"]["part"]] == ["backbone", "decode_head", "resize"]
    assert {row["operator"] for row in mini["breakdown"]["not_counted"]} >= {"aten.gelu", "aten.add"}
    for table in ("part", "operator", "module"):
        assert sum(row["macs_by_rule"] for row in mini["breakdown"][table]) == 900487907328


def test_the_batch_multiplies_the_count_and_leaves_the_published_figure_out(segzoo_command):
    one, four = (
        json.loads(segzoo_command("flops", "nat-mini", "--shape", "512x2048", "-b", str(batch), "--json").out)
        for batch in (1, 4)
    )
    assert four["metrics"]["macs"] == 4 * one["metrics"]["macs"]
    assert one["expected"] and not four["expected"]


def test_a_finer_table_can_be_had_as_csv(segzoo_command):
    result = segzoo_command("flops", "nat-mini", "--by", "part", "--format", "csv", "--rule", "multiply-add")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [row["part"] for row in rows] == ["backbone", "decode_head", "resize"]
    assert [int(row["macs"]) for row in rows] == [int(row["macs_by_rule"]) for row in rows]


def test_params_of_each_part_stand_beside_the_published_figure(segzoo_command):
    result = segzoo_command("params", "nat-tiny", "--check")
    assert result.code == 0
    assert "57.70 M" in result.out and "58.00 M" in result.out and "27.39 M" in result.out


def test_check_without_a_published_figure_exits_with_7_after_the_table(segzoo_command):
    result = segzoo_command("flops", "nat-tiny", "--shape", "64", "--check", "--quiet")
    assert result.code == 7 and "nat-tiny" in result.out
    assert result.err == (
        "segzoo: error: nothing is published to check nat-tiny against at this shape and by this rule\n"
    )


def test_a_model_that_fails_does_not_lose_the_others(segzoo_command, monkeypatch):
    from segzoo.errors import UsageError
    from segzoo.profiling import records

    def create(name, **words):
        if name == "nat-tiny":
            raise UsageError("too small")
        return records_create(name, **words)

    records_create = records.create_model
    monkeypatch.setattr(records, "create_model", create)
    result = segzoo_command("flops", "nat-mini", "nat-tiny", "--quiet")
    assert "900.5 G" in result.out and "! nat-tiny: too small" in result.out
    assert (result.code, result.err) == (1, "segzoo: error: 1 of 2 models failed: nat-tiny\n")
    assert segzoo_command("flops", "nat-tiny").code == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["flops", "nat-tinny"], 2, "unknown model 'nat-tinny'; did you mean 'nat-tiny'"),
        (["flops", "zzz*"], 2, "unknown model 'zzz*'"),
        (["flops", "nat-tiny", "--shape", "0x5"], 2, "impossible shape '0x5'"),
        (["flops", "nat-tiny", "--shape", "axb"], 2, "impossible shape 'axb'"),
        (["flops", "nat-tiny", "--rule", "thopp"], 2, "unknown counting rule 'thopp'"),
        (["latency", "nat-pico", "--device", "cuda:99"], 6, "CUDA devices"),
        (["latency", "nat-pico", "--device", "gpu"], 2, "unknown device 'gpu'"),
        (["latency", "nat-pico", "--shape", "900000x900000", "--device", "cpu"], 1, "needs at least"),
        (["latency", "nat-pico", "--dtype", "tf32", "--device", "cpu"], 2, "tf32 is a format of CUDA"),
    ],
)
def test_bad_words_are_one_line_and_an_exit_code(segzoo_command, words, code, message):
    result = segzoo_command(*words)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("segzoo: error: ") and message in result.err
    assert result.err.count("\n") == 1


def test_latency_keeps_every_sample_and_states_its_conditions(segzoo_command, tmp_path):
    record = tmp_path / "latency.json"
    words = ["--shape", "64x96", "--repetitions", "4", "--threads", "1", "--device", "cpu", "-o", str(record)]
    result = segzoo_command("latency", "nat-pico", *words)
    run = json.loads(record.read_text())
    samples = [row["latency_ms"] for row in run["breakdown"]["sample"]]
    assert result.code == 0 and "nat-pico" in result.out
    assert len(samples) == 4 and run["metrics"]["latency_ms_min"] == min(samples)
    assert min(samples) <= run["metrics"]["latency_ms_median"] <= run["metrics"]["latency_ms_p99"] <= max(samples)
    assert run["metrics"]["images_per_second"] == pytest.approx(1000 / run["metrics"]["latency_ms_median"])
    assert run["metrics"]["peak_memory_bytes"] > 2**20
    conditions = run["conditions"]
    assert conditions["shape"] == [1, 3, 64, 96] and conditions["threads"] == 1
    assert (conditions["scope"], conditions["device"], conditions["dtype"]) == ("model", "cpu", "fp32")


def test_latency_of_a_picture_through_the_protocol(segzoo_command):
    words = ["--scope", "protocol", "--shape", "40x60", "--repetitions", "2", "--device", "cpu", "--json"]
    run = json.loads(segzoo_command("latency", "nat-pico", *words).out)
    assert run["conditions"]["scope"] == "protocol" and run["conditions"]["protocol"]
    assert len(run["breakdown"]["sample"]) == 2
