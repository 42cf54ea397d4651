"""Learning rates against mmcv's recorded ones and against the log of a published training."""

from __future__ import annotations

import json

import pytest
from oracle_files import oracle, shared_data

from segzoo.errors import UsageError
from segzoo.training.schedule import learning_rate, set_learning_rates
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.schema import Recipe

SCHEDULE_KEYS = ("policy", "power", "min_lr", "step", "gamma")


def recorded_recipe(words: dict, base: float) -> Recipe:
    warmup = {}
    if words.get("warmup"):
        warmup = {"policy": words["warmup"], "iterations": words["warmup_iters"], "ratio": words["warmup_ratio"]}
    return Recipe(
        lr=base,
        schedule={key: words[key] for key in SCHEDULE_KEYS if words.get(key) is not None},
        warmup=warmup,
        iterations=words["max_iters"],
        batch_size=16,
        crop=(512, 512),
    )


@pytest.mark.parametrize("name", list(json.loads(oracle("protocol/schedule/lr.json").read_text())["schedules"]))
def test_rates_are_those_of_the_published_tool_chain(name):
    words = json.loads(oracle("protocol/schedule/lr.json").read_text())["schedules"][name]
    for iteration, *rates in words["rows"]:
        for base, rate in zip(words["base_lr"], rates, strict=True):
            assert learning_rate(recorded_recipe(words, base), iteration) == pytest.approx(rate, rel=1e-12, abs=1e-20)


def test_every_group_has_its_own_base():
    recipe = Recipe(lr=1.0, schedule={"policy": "poly", "min_lr": 0.1}, iterations=10, batch_size=1, crop=(8, 8))
    groups = [{"lr_scale": 1.0}, {"lr_scale": 0.5}]
    assert set_learning_rates(groups, recipe, 5) == pytest.approx(0.55)
    assert [group["lr"] for group in groups] == pytest.approx([0.55, 0.3])


def test_the_published_log_of_recnext_m3_comes_out_to_its_five_decimals():
    log = shared_data("logs/recnext_m3_ade20k.json")
    recipe = load_manifest().recipes["sem-fpn-recnext-ade20k"]
    lines = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    lines = [line for line in lines if line.get("mode") == "train"]
    assert len(lines) == 1600
    for line in lines:
        assert round(learning_rate(recipe, line["iter"] - 1), 5) == line["lr"], line["iter"]


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(UsageError, match="did you mean 'poly'"):
        learning_rate(Recipe(lr=1.0, schedule={"policy": "pol"}, iterations=2, batch_size=1, crop=(8, 8)), 0)
