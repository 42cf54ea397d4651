"""Rounds, resuming, rows with errors, and what a record says of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from record_samples import outcome

from segzoo.bench import jobs, run
from segzoo.bench.jobs import Outcome
from segzoo.bench.plan import YARDSTICK, Cell
from segzoo.bench.record import bench_run
from segzoo.errors import IntegrityError, UsageError

ONE, TWO = Cell(model="one", device="cpu"), Cell(model="two", device="cpu")


class FakeMachine:
    """Stands for `run_job`: remembers what was asked, answers from a table, or ends like a power cut."""

    def __init__(self, answers: dict[str, list[Outcome]], cut_after: int | None = None) -> None:
        self.answers, self.asked, self.cut_after = answers, [], cut_after

    def __call__(self, cell: Cell, *, static: bool, throughput: bool, timeout_s: float) -> Outcome:
        if len(self.asked) == self.cut_after:
            raise KeyboardInterrupt
        number = sum(name == cell.model for name, *_ in self.asked)
        self.asked.append((cell.model, static, throughput))
        answers = self.answers[cell.model]
        return answers[min(number, len(answers) - 1)]


@pytest.fixture
def machine(monkeypatch):
    def install(answers, **words) -> FakeMachine:
        fake = FakeMachine(answers, **words)
        monkeypatch.setattr(run, "run_job", fake)
        return fake

    return install


ANSWERS = {
    YARDSTICK: [outcome(10.0), outcome(20.0)],
    "one": [outcome(30.0, 30.0), outcome(60.0, 62.0)],
    "two": [outcome(5.0), outcome(11.0)],
}


def test_every_round_goes_through_the_yardstick_and_all_cells(machine, tmp_path):
    fake = machine(ANSWERS)
    runs = list(run.bench([ONE, TWO], tmp_path / "out.jsonl", rounds=2, throughput=True))
    # The first round counts and looks for the best batch as well.
    assert fake.asked == [
        (YARDSTICK, True, False), ("one", True, True), ("two", True, True),
        (YARDSTICK, False, False), ("one", False, False), ("two", False, False),
    ]  # fmt: skip
    assert [item.model["name"] for item in runs] == ["one", "two"]
    # 30/10 and 61/20: what slows a whole round cancels out.
    assert runs[0].metrics["yardstick_ratio"] == pytest.approx((3.0 + 3.05) / 2)
    assert runs[0].metrics["latency_ms_median"] == 45.0
    assert [row["round"] for row in runs[0].breakdown["sample"]] == [0, 0, 1, 1]
    assert runs[0].metrics["params"] == 7 and runs[0].conditions["cell"] == ONE.key
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["model"]["name"] for record in written] == ["one", "two"]
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_interrupted_benchmark_goes_on_where_it_was(machine, tmp_path):
    output = tmp_path / "out.jsonl"
    machine(ANSWERS, cut_after=2)
    with pytest.raises(KeyboardInterrupt):
        list(run.bench([ONE, TWO], output, rounds=2))
    with pytest.raises(UsageError, match="--resume goes on with it"):
        list(run.bench([ONE, TWO], output, rounds=2))
    fake = machine({name: answers[:1] for name, answers in ANSWERS.items()})
    runs = list(run.bench([ONE, TWO], output, rounds=2, resume=True))
    assert [name for name, *_ in fake.asked] == ["two", YARDSTICK, "one", "two"]
    assert len(runs[0].breakdown["sample"]) == 4
    # All is done now: nothing is left to measure.
    assert list(run.bench([ONE, TWO], output, rounds=2, resume=True)) == []
    assert len(fake.asked) == 4


def test_a_failing_cell_is_a_row_and_the_rest_goes_on(machine, tmp_path):
    fake = machine(ANSWERS | {"one": [Outcome(error="the process crashed with SIGSEGV")]})
    runs = list(run.bench([ONE, TWO], tmp_path / "out.jsonl", rounds=2))
    assert [(item.status, item.error) for item in runs] == [
        ("failed", "the process crashed with SIGSEGV"), ("ok", None),
    ]  # fmt: skip
    # It is not tried again in the second round, but by --resume.
    assert [name for name, *_ in fake.asked].count("one") == 1
    fake = machine(ANSWERS)
    again = list(run.bench([ONE, TWO], tmp_path / "out.jsonl", rounds=2, resume=True))
    assert [item.model["name"] for item in again] == ["one"] and again[0].status == "ok"


def test_an_output_with_other_records_is_refused(tmp_path):
    (tmp_path / "out.jsonl").write_text('{"command": "latency"}\n')
    with pytest.raises(IntegrityError, match="something else than records of segzoo bench"):
        list(run.bench([ONE], tmp_path / "out.jsonl", resume=True))


def test_a_busy_machine_and_a_late_failure_are_notes():
    busy = outcome(1.0, other_work_percent=41.0, governor="powersave")
    died = replace(busy, error="the process was killed", trials=[{"batch_size": 1, "images_per_second": 3.0,
                                                                   "peak_memory_bytes": 9}])  # fmt: skip
    record = bench_run(ONE, [died, busy], [], started="", seconds=1.0, timeout_s=600.0)
    assert record.status == "ok"
    assert record.notes == [
        "the machine was busy: up to 41 % of its processors went to other work", "the process was killed",
    ]  # fmt: skip
    assert record.conditions["governor"] == "powersave" and record.metrics["yardstick_ratio"] is None
    assert (record.metrics["best_images_per_second"], record.metrics["best_batch_size"]) == (3.0, 1)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the memory was exhausted"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
        ("raise ValueError('wrong number')", "exit code 1: ValueError: wrong number"),
        ("import time; print('slow'); time.sleep(60)", "took longer than 1 s"),
    ],
)
def test_whatever_ends_a_process_is_said(tmp_path, code, message):
    log = tmp_path / "log.txt"
    with log.open("wb") as stream:
        problem = jobs._run_process([sys.executable, "-c", code], stream, timeout_s=1.0 if "sleep" in code else 30.0)
    assert message in jobs._with_last_words(problem, log)


def test_a_real_process_measures_counts_and_tries_batches(monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    cell = Cell(model="nat-pico", device="cpu", height=32, width=48, threads=1, repetitions=2, fused=True)
    answer = jobs.run_job(cell, static=True, throughput=False, timeout_s=120.0)
    assert answer.error is None
    assert len(answer.latency["samples_ms"]) == 2 and min(answer.latency["samples_ms"]) > 0
    assert (answer.latency["device"], answer.latency["threads"]) == ("cpu", 1)
    assert answer.static["params"] == 1_435_966 and answer.static["flops"] == 2 * answer.static["macs"]
    assert 0 <= answer.machine["other_work_percent"] <= 100


def test_a_model_that_cannot_take_the_shape_is_an_error_of_its_row(monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    cell = Cell(model="unept-res50", device="cpu", height=32, width=48, repetitions=2)
    answer = jobs.run_job(cell, static=False, throughput=False, timeout_s=120.0)
    assert answer.latency is None and "takes 480x480 pixels, not 32x48" in answer.error
