"""The table of a model on corrupted images, from evaluations with known scores."""

from __future__ import annotations

import pytest

from segzoo.data.corruptions import parse_corruptions
from segzoo.evaluation.robustness import robustness
from segzoo.results import Run

SCORES = {None: 80.0, "fog:1": 70.0, "fog:2": 60.0, "fog:3": 50.0, "fog:4": 40.0, "fog:5": 30.0, "jpeg:2": 20.0,
          "jpeg:4": None}  # fmt: skip


def scored(corruption=None):
    return Run(
        command="eval",
        model={"name": "m"},
        metrics={"miou_percent": SCORES[corruption], "images": 3},
        conditions={"dataset": "d", "dtype": "fp32", **({"corruption": corruption} if corruption else {})},
    )


def test_rows_have_the_scores_by_strength_their_mean_and_the_drop():
    summary, clean, *corrupted = robustness(scored, parse_corruptions(["fog"]))
    assert clean.metrics["miou_percent"] == 80.0 and len(corrupted) == 5
    (row,) = summary.breakdown["corruption"]
    assert [row[f"strength_{strength}_percent"] for strength in range(1, 6)] == [70, 60, 50, 40, 30]
    assert (row["corruption"], row["family"], row["mean_percent"]) == ("fog", "weather", 50.0)
    assert row["relative_drop_percent"] == pytest.approx(100 * (80 - 50) / 80)
    assert summary.metrics["corrupted_miou_percent"] == 50.0
    assert summary.metrics["relative_percent"] == pytest.approx(62.5)
    assert summary.notes == []
    words = [f"fog:{strength}" for strength in range(1, 6)]
    assert summary.conditions == {"dataset": "d", "dtype": "fp32", "corruptions": words}


def test_the_mean_is_that_of_the_kinds_not_of_all_evaluations():
    summary = robustness(scored, parse_corruptions(["fog", "jpeg:2"]))[0]
    assert summary.metrics["corrupted_miou_percent"] == pytest.approx((50 + 20) / 2)
    assert summary.metrics["corruptions"] == 6
    row = summary.breakdown["corruption"][1]
    assert row["strength_1_percent"] is None and row["mean_percent"] == 20.0
    assert summary.notes == ["not all five strengths of every kind: the means are not those of other tables"]


def test_an_evaluation_without_a_score_makes_no_mean():
    summary = robustness(scored, parse_corruptions(["jpeg:4"]))[0]
    assert summary.breakdown["corruption"][0]["mean_percent"] is None
    assert summary.metrics["corrupted_miou_percent"] is None and summary.metrics["relative_percent"] is None
