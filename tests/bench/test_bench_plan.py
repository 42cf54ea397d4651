"""Cells from words and suites, the journal, and the search for the best batch."""

from __future__ import annotations

import json
import re

import pytest

from segzoo.bench.journal import append_line, read_lines
from segzoo.bench.plan import Block, Cell, read_suite
from segzoo.bench.throughput import Trial, best_batch
from segzoo.errors import IntegrityError, SegzooError, UsageError


def test_a_block_is_all_combinations_the_model_turning_slowest():
    cells = Block(models=("nat-mini", "nat-tiny"), dtypes=("fp32", "bf16"), shapes=("64", "32x48")).cells()
    assert [(cell.model, cell.dtype, cell.height, cell.width) for cell in cells] == [
        (model, dtype, *shape)
        for model in ("nat-mini", "nat-tiny")
        for dtype in ("fp32", "bf16")
        for shape in ((64, 64), (32, 48))
    ]
    assert len({cell.key for cell in cells}) == 8


def test_the_key_tells_apart_all_that_makes_a_cell():
    plain = Cell(model="nat-tiny")
    changes = [
        {"model": "nat-mini"}, {"device": "cpu"}, {"dtype": "bf16"}, {"height": 64}, {"width": 64},
        {"batch_size": 2}, {"scope": "protocol"}, {"threads": 1}, {"compile": True}, {"channels_last": True},
        {"fused": True}, {"backend": "onnxruntime"}, {"repetitions": 3},
    ]  # fmt: skip
    keys = {Cell(**({"model": "nat-tiny"} | change)).key for change in changes}
    assert len(keys) == len(changes) and plain.key not in keys


def test_the_yardstick_keeps_device_and_threads_and_nothing_else():
    stick = Cell(
        model="nat-tiny", device="cuda", threads=3, dtype="bf16", height=64, batch_size=4, fused=True
    ).yardstick()
    assert (stick.device, stick.threads) == ("cuda", 3)
    assert (stick.dtype, stick.height, stick.width, stick.batch_size, stick.fused) == ("fp32", 224, 224, 1, False)


def test_a_suite_joins_its_blocks_without_repeats(tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "- {models: ['nat-mini', 'nat-tiny'], devices: [cpu], threads: [1, null]}\n"
        "- {models: [nat-tiny], devices: [cpu]}\n"
    )
    cells = read_suite(suite)
    assert [(cell.model, cell.threads) for cell in cells] == [
        ("nat-mini", 1), ("nat-mini", None), ("nat-tiny", 1), ("nat-tiny", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {modles: [nat-tiny]}", "modles"),
        ("- {models: [nat-tinny]}", "did you mean 'nat-tiny'"),
        ("- {models: [nat-tiny], shapes: [0x]}", "impossible shape '0x'"),
        ("- {models: [nat-tiny], dtypes: [fp8]}", "fp8"),
        ("- {models: [nat-tiny], batch_sizes: [0]}", "at least 1"),
        ("- {models: [nat-tiny], batch_sizes: []}", "batch_sizes is empty"),
        ("- {models: [nat-tiny], scopes: [protocol], batch_sizes: [2]}", "one picture at a time"),
        ("- {models: [nat-tiny], backend: onnxruntime, compile: true}", "the network alone"),
        ("models: [nat-tiny]", "is no suite"),
        ("- {", "suite.yaml is not valid YAML"),
    ],
)
def test_a_faulty_suite_is_refused(tmp_path, text, message):
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        read_suite(tmp_path / "suite.yaml")


def test_an_unfinished_line_is_cut_off_before_the_next_is_appended(tmp_path):
    path = tmp_path / "below" / "lines.jsonl"
    append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"b": ')
    assert list(read_lines(path)) == [{"a": 1}]
    append_line(path, {"c": 3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"c": 3}]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\nrubbish\n{"b": 2}\n')
    with pytest.raises(IntegrityError, match=r"line 2 is no JSON"):
        list(read_lines(path))


def search(rates: dict[int, float], *, memory: int = 10**9, longest_call_s: float = 1e9) -> tuple[int, list[int]]:
    """The best batch and the batches tried, for a device with these rates and room for `memory` images."""
    tried = []

    def measure(batch: int) -> Trial:
        if batch > memory:
            raise SegzooError("out of memory for a batch")
        known = max(size for size in rates if size <= batch)
        return Trial(batch_size=batch, images_per_second=rates[known])

    best = best_batch(measure, lambda trial: tried.append(trial.batch_size), longest_call_s=longest_call_s)
    return best.batch_size if best else 0, tried


def test_the_batch_is_doubled_until_two_in_a_row_gain_nothing():
    assert search({1: 10, 2: 18, 4: 30, 8: 30.2, 16: 29}) == (8, [1, 2, 4, 8, 16])


def test_out_of_memory_halves_the_step():
    rates = {size: 10.0 * size for size in range(1, 65)}
    assert search(rates, memory=13) == (13, [1, 2, 4, 8, 16, 12, 14, 13])
    assert search(rates, memory=1) == (1, [1, 2])
    assert search(rates, memory=0) == (0, [1])


def test_no_batch_is_tried_whose_call_would_take_too_long():
    assert search({1: 1.0, 2: 2.0, 4: 3.0}, longest_call_s=2.5) == (4, [1, 2, 4])


def test_other_errors_than_memory_are_not_swallowed():
    def measure(batch: int) -> Trial:
        raise UsageError("the model cannot run this")

    with pytest.raises(UsageError):
        best_batch(measure, lambda trial: None)
