"""Claims, their verdicts, and the page that is made of them, from samples written by hand."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from segzoo.errors import UsageError
from segzoo.kernel_bench.record import Result, Samples, tables, verdict
from segzoo.kernel_bench.targets import TARGETS, select, target
from segzoo.report.kernel_bench import page, text_of
from segzoo.results import Run

FORWARD = target("neighborhood-forward")  # goal 5, stretch 7


def _run(*results: Result) -> Run:
    return Run(command="kernel bench", conditions={"threads": 1}, breakdown=tables(results), started="2026-01-02T03")


def _six_times() -> Result:
    first = Samples(case="first", ours_ms=[1.0, 1.0, 1.0], rival_ms=[5.0, 5.0, 5.0])
    second = Samples(case="second", ours_ms=[2.0, 2.0, 2.0], rival_ms=[13.0, 13.0, 13.0])
    return Result(target=FORWARD, samples=[first, second])


def test_a_claim_is_about_the_sum_of_its_cases() -> None:
    claim = tables([_six_times()])["claim"][0]
    assert (claim["measured"], claim["low"], claim["high"], claim["verdict"]) == (6.0, 6.0, 6.0, "goal")
    ratios = {row["case"]: row["ratio"] for row in tables([_six_times()])["case"]}
    assert ratios == {"first": 5.0, "second": 6.5}
    assert len(tables([_six_times()])["sample"]) == 6


def test_the_interval_holds_the_ratio_and_grows_with_the_noise() -> None:
    calm, wild = (
        tables([Result(target=FORWARD, samples=[Samples(case="c", ours_ms=ours, rival_ms=[10.0] * 5)])])["claim"][0]
        for ours in ([2.0, 2.01, 2.0, 1.99, 2.0], [2.0, 3.0, 1.5, 1.0, 2.5])
    )
    assert calm["low"] <= calm["measured"] <= calm["high"]
    assert wild["high"] - wild["low"] > 5 * (calm["high"] - calm["low"])


def test_a_share_is_in_percent() -> None:
    samples = Samples(case="c", ours_ms=[4.0], rival_ms=[2.0])
    assert tables([Result(target=target("neighborhood-peak"), samples=[samples])])["claim"][0]["measured"] == 50.0


@pytest.mark.parametrize(("measured", "expected"), [(4.99, "missed"), (5, "goal"), (6.99, "goal"), (7, "stretch")])
def test_verdicts(measured: float, expected: str) -> None:
    assert verdict(FORWARD, measured) == expected


def test_rows_are_chosen_by_name_and_glob_and_a_wrong_one_is_named() -> None:
    assert [item.row for item in select(["nat-tiny-*"])] == [
        "nat-tiny-backbone",
        "nat-tiny-bf16",
        "nat-tiny-bf16-labels",
    ]
    assert {item.device for item in select([], "cpu")} == {"cpu"}
    with pytest.raises(UsageError, match="no row 'tail-one-vew'; did you mean 'tail-one-view'"):
        select(["tail-one-vew"])
    with pytest.raises(UsageError, match="no row 'cuda-"):
        select(["cuda-neighborhood-forward"], "cpu")


def test_the_page_says_what_was_missed_and_what_has_never_run() -> None:
    missed = Result(target=target("neighborhood-memory"), value=9.0, values=[{"case": "c", "ratio": 9.0}])
    text = page([_run(_six_times(), missed)], [asdict(item) for item in TARGETS])
    lines = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert "6 x (6 to 6)" in lines["neighborhood-forward"] and "reached" in lines["neighborhood-forward"]
    assert "9 x" in lines["neighborhood-memory"] and "**missed**" in lines["neighborhood-memory"]
    assert "never run" in lines["cuda-neighborhood-forward"]
    sentence = next(line for line in text.splitlines() if line.startswith("**Never run on a GPU:**"))
    assert all(f"`{item.row}`" in sentence for item in TARGETS if item.device == "cuda")


def test_the_terminal_shows_each_claim_and_case() -> None:
    lines = text_of(_run(_six_times())).splitlines()
    assert any("neighborhood-forward" in line and "6 x" in line and "goal" in line for line in lines)
    assert any("second" in line and "2.00 ms" in line and "13.00 ms" in line and "6.5 x" in line for line in lines)


def test_the_page_without_a_record_claims_nothing() -> None:
    text = page([], [asdict(item) for item in TARGETS])
    assert text.count("never run") == len(TARGETS)
    assert "Never run on a CPU" in text
