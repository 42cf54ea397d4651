"""Better, worse, or the same within the noise; and records run again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from record_samples import MACHINE, counted, evaluated, timed

from segzoo.bench.replay import replay
from segzoo.errors import ToleranceError, UsageError
from segzoo.report.diff import demand_no_regression, diff, parse_percent
from segzoo.report.noise import ratio_interval


def noisy(name: str, centre: float, *, rounds: tuple[float, ...] = (1.0,), seed: int = 0, **words):
    """60 samples around `centre`, a third of them in each round, which are slower by their factor."""
    generator = np.random.default_rng(seed)
    samples = [centre * factor * (1 + 0.03 * generator.standard_normal()) for factor in rounds for _ in range(20)]
    return timed(name, *map(float, samples), rounds=len(rounds), **words)


def row_of(run, figure: str) -> dict:
    return next(row for row in run.breakdown["figure"] if row["figure"] == figure)


def test_noise_is_the_same_and_a_real_change_is_not():
    base = noisy("a", 100.0)
    assert row_of(diff([base], [noisy("a", 100.0, seed=1)]), "latency_ms_median")["verdict"] == "same"
    slower = row_of(diff([base], [noisy("a", 110.0, seed=1)]), "latency_ms_median")
    assert slower["verdict"] == "worse" and slower["low_percent"] > 5 and slower["high_percent"] < 15
    assert row_of(diff([base], [noisy("a", 90.0, seed=1)]), "latency_ms_median")["verdict"] == "better"


def test_a_difference_between_rounds_counts_as_noise():
    # 10 % slower in the median, but one round of three was as slow before: too little to tell.
    before, after = noisy("a", 100.0, rounds=(1.0, 1.0, 1.2)), noisy("a", 100.0, rounds=(1.1, 1.2, 1.0), seed=1)
    assert row_of(diff([before], [after]), "latency_ms_median")["verdict"] == "same"
    flat = [replace(run, breakdown={"sample": [{"latency_ms": row["latency_ms"]} for row in run.breakdown["sample"]]})
            for run in (before, after)]  # fmt: skip
    assert row_of(diff(flat[:1], flat[1:]), "latency_ms_median")["verdict"] == "worse"


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        before, after = ([{"latency_ms": float(ms)} for ms in generator.lognormal(4, 0.2, 25)] for _ in range(2))
        low, high = ratio_interval(before, after)
        covered += low <= 1.0 <= high
    # 95 % of 60 are 57; fewer than 51 would happen once in 500 such tests.
    assert covered >= 51


def test_counts_and_scores_have_no_noise():
    run = diff(
        [counted("a", params=1000, macs=500), evaluated("a", {"wall": 50.0})],
        [counted("a", params=1001, macs=500), evaluated("a", {"wall": 49.9})],
    )
    assert row_of(run, "params")["verdict"] == "worse" and row_of(run, "macs")["verdict"] == "same"
    assert row_of(run, "miou_percent")["verdict"] == "worse"
    assert run.metrics == {"records": 2, "better": 0, "worse": 2, "same": 2}


def test_only_what_was_measured_alike_is_compared():
    before = [timed("a", 1.0), timed("b", 1.0)]
    after = [timed("a", 1.0), timed("b", 1.0, conditions={"dtype": "bf16"})]
    run = diff(before, after)
    assert run.metrics["records"] == 1
    assert run.notes == ["only in before: latency b", "only in after: latency b"]
    with pytest.raises(UsageError, match="measured alike"):
        diff([timed("a", 1.0), timed("b", 1.0)], [timed("c", 1.0), timed("d", 1.0)])


def test_two_single_records_are_compared_with_what_differs_said():
    other = replace(MACHINE, cpu="New CPU", packages={"torch": "2.16.0"})
    run = diff([timed("a", 2.0)], [timed("b", 1.0, conditions={"dtype": "bf16"}, environment=other)])
    assert run.notes == [
        "b: dtype fp32 -> bf16", "model a -> b", "processor Test CPU -> New CPU", "torch 2.15.0 -> 2.16.0",
    ]  # fmt: skip


def test_a_record_that_fails_now_is_worse():
    run = diff([timed("a", 1.0)], [replace(timed("a", 1.0), status="failed", error="killed")])
    assert run.breakdown["figure"][0]["verdict"] == "worse"
    with pytest.raises(ToleranceError, match="a runs at all"):
        demand_no_regression(run, 5.0)


def test_percentages():
    assert (parse_percent("5%"), parse_percent(" 2.5 "), parse_percent("0")) == (5.0, 2.5, 0.0)
    for word in ("-1%", "inf", "nan", "x"):
        with pytest.raises(UsageError, match="impossible percentage"):
            parse_percent(word)


def test_what_cannot_be_run_again_is_refused():
    with pytest.raises(UsageError, match="'train' cannot be run again"):
        replay(replace(timed("a", 1.0), command="train"))
    with pytest.raises(UsageError, match="there is nothing to compare with"):
        replay(replace(timed("a", 1.0), status="failed", error="killed"))
    with pytest.raises(UsageError, match=r"made \(in Python"):
        replay(evaluated("MyModel", {"wall": 1.0}))
