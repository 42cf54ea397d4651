"""Which rows can be compared in one picture of score against cost, and which of them no other beats."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from segzoo.report.entries import Entry

FEWEST_POINTS = 2
MOST_PICTURES = 12


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One horizontal axis.

    Attributes:
        key: column of an Entry.
        title: of the axis, with its unit.
        unit: what one unit of the axis is in units of the column.
        timed: whether it depends on the whole setting, or (False) at most on the input.
        stand_in: column with the published value, for a model that was not measured.
    """

    key: str
    title: str
    unit: float = 1.0
    timed: bool = False
    stand_in: str | None = None


COSTS = (
    Cost(key="latency_ms_median", title="latency, ms", timed=True),
    Cost(key="macs", title="multiply-adds, G", unit=1e9),
    Cost(key="params", title="parameters, M", unit=1e6, stand_in="params_published"),
    Cost(key="peak_memory_bytes", title="peak memory, MiB", unit=2**20, timed=True),
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in one picture; `published` where the score or the cost is the authors' and not measured."""

    model: str
    family: str
    cost: float
    score: float
    published: bool


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Models that can be compared: one data set, one setting, one cost.

    Attributes:
        setting: the conditions of the cost in words; "" where there are none.
        points: by rising cost.
        front: models of the Pareto front, by rising cost.
    """

    cost: Cost
    dataset: str
    setting: str
    points: tuple[Point, ...]
    front: tuple[str, ...]


def pictures(rows: Iterable[Entry]) -> list[Picture]:
    """Pictures of at least two models each, those with most models first, the costs in the order of `COSTS`."""
    groups: dict[tuple[Cost, str, str], dict[str, Point]] = defaultdict(dict)
    for row in rows:
        for cost in COSTS:
            point = _point(row, cost)
            if point is not None:
                dataset = str(row.values.get("dataset", "unknown data"))
                groups[cost, dataset, _setting(row, cost)].setdefault(row.model, point)
    found = [_picture(*key, list(points.values())) for key, points in groups.items() if len(points) >= FEWEST_POINTS]
    found.sort(key=lambda picture: -len(picture.points))
    return sorted(found[:MOST_PICTURES], key=lambda picture: COSTS.index(picture.cost))


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other is at least as good as in both and better in one, by rising cost."""
    best = -math.inf
    found = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if point.score > best:
            best = point.score
            found.append(point)
    return found


def family(model: str) -> str:
    """The first word of a model's name: "nat" of nat-tiny."""
    return model.split("/")[-1].split("-")[0].split("_")[0]


def _point(row: Entry, cost: Cost) -> Point | None:
    score, value = row.values.get("miou_percent"), row.values.get(cost.key)
    published = False
    if score is None:
        score, published = row.values.get("miou_published"), True
    if value is None and cost.stand_in:
        value, published = row.values.get(cost.stand_in), True
    if score is None or value is None or not _usable(score) or not _usable(value):
        return None
    return Point(
        model=row.model,
        family=family(row.model),
        cost=value / cost.unit,
        score=score,
        published=published,
    )


def _usable(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _setting(row: Entry, cost: Cost) -> str:
    if cost.timed:
        return setting_words(row)
    return f"at {row.values['macs_input']}" if cost.key == "macs" and row.values.get("macs_input") else ""


def setting_words(row: Entry) -> str:
    """The setting of a row in words, such as "cpu (Xeon, 2 cores), fp32, 512x512, batch 1, 2 threads"."""
    get = row.values.get
    words = [
        f"{get('device', '')} ({get('machine', 'unknown')})",
        get("dtype"),
        get("input"),
        f"batch {get('batch', 1)}",
        f"{get('threads')} threads" if get("threads") and get("device") == "cpu" else None,
        f"scope {get('scope')}" if get("scope") else None,
        get("backend") if get("backend") != "torch" else None,
        *(key.replace("_", " ") for key in ("compile", "channels_last", "fused") if get(key)),
    ]
    return ", ".join(str(word) for word in words if word)


def _picture(cost: Cost, dataset: str, setting: str, points: list[Point]) -> Picture:
    ordered = sorted(points, key=lambda point: (point.cost, -point.score))
    return Picture(
        cost=cost,
        dataset=dataset,
        setting=setting,
        points=tuple(ordered),
        front=tuple(point.model for point in front(ordered)),
    )
