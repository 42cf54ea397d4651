"""Learning rates by iteration, as mmcv's updaters give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segzoo.errors import UsageError, suggestion
from segzoo.zoo.schema import Recipe

_POLICIES = ("poly", "step", "constant")
_WARMUPS = ("linear", "constant", "exp")


def learning_rate(recipe: Recipe, iteration: int, *, base: float | None = None) -> float:
    """The rate that iteration number `iteration` (from 0) is done with.

    Args:
        recipe: its `schedule`, `warmup` and `iterations`.
        iteration: from 0 to recipe.iterations - 1.
        base: the rate of a group of parameters before any schedule; the recipe's own where None. `min_lr` is the
            same number for all groups.

    Raises:
        UsageError: a schedule or warm-up that is not known.
    """
    value = _regular(recipe, recipe.lr if base is None else base, iteration)
    length = int(recipe.warmup.get("iterations", 0))
    # The warm-up multiplies the rate that has begun to fall already.
    return value * _warmup_factor(recipe.warmup, iteration / length) if iteration < length else value


def set_learning_rates(groups: list[dict[str, Any]], recipe: Recipe, iteration: int) -> float:
    """Sets "lr" of an optimiser's groups for `iteration`, by each group's "lr_scale"; returns the recipe's own rate."""
    for group in groups:
        group["lr"] = learning_rate(recipe, iteration, base=recipe.lr * group["lr_scale"])
    return learning_rate(recipe, iteration)


def _regular(recipe: Recipe, base: float, iteration: int) -> float:
    words = recipe.schedule
    policy, lowest = words.get("policy", "constant"), words.get("min_lr", 0.0)
    if policy == "constant":
        return base
    if policy == "poly":
        return (base - lowest) * (1.0 - iteration / recipe.iterations) ** words.get("power", 1.0) + lowest
    if policy == "step":
        step = words["step"]
        done = iteration // step if isinstance(step, int) else sum(1 for milestone in step if milestone <= iteration)
        return max(base * words.get("gamma", 0.1) ** done, lowest)
    raise UsageError(
        f"the schedule's policy {policy!r} is not known{suggestion(str(policy), _POLICIES)}; there are: "
        f"{', '.join(_POLICIES)}"
    )


def _warmup_factor(words: Mapping[str, Any], done: float) -> float:
    """What the rate is multiplied with when `done` (0 to 1) of the warm-up is over."""
    policy, ratio = words.get("policy", "linear"), words.get("ratio", 0.1)
    if policy == "linear":
        return 1.0 - (1.0 - done) * (1.0 - ratio)
    if policy == "constant":
        return ratio
    if policy == "exp":
        return ratio ** (1.0 - done)
    raise UsageError(
        f"the warm-up's policy {policy!r} is not known{suggestion(str(policy), _WARMUPS)}; there are: "
        f"{', '.join(_WARMUPS)}"
    )
