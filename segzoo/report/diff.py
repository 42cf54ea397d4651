"""Two sets of records compared, figure by figure: better, worse, or the same within the noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.errors import ToleranceError, UsageError
from segzoo.report.noise import ratio_interval
from segzoo.report.reading import read_records
from segzoo.results import Run, Stopwatch, command_line, environment

_SAME_CONDITIONS = (
    "shape", "rule", "scope", "device", "dtype", "threads", "compile", "channels_last", "fused", "fuse", "backend",
    "dataset", "split", "protocol", "corruption",
)  # fmt: skip
_TOLD_CONDITIONS = ("data_fingerprint", "kernels", "governor", "rounds")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that is compared: which direction is better, and what change is none.

    Attributes:
        lower_is_better: as for costs.
        same_percent: a relative change up to this is "same".
        from_samples: its noise is estimated from the raw samples.
    """

    key: str
    lower_is_better: bool = True
    same_percent: float = 0.0
    from_samples: bool = False


FIGURES = (
    Figure(key="latency_ms_median", same_percent=1.0, from_samples=True),
    Figure(key="yardstick_ratio", same_percent=1.0),
    Figure(key="best_images_per_second", lower_is_better=False, same_percent=5.0),
    Figure(key="peak_memory_bytes", same_percent=2.0),
    Figure(key="energy_joules_per_image", same_percent=5.0),
    Figure(key="params"),
    Figure(key="macs"),
    Figure(key="macs_by_rule"),
    Figure(key="miou_percent", lower_is_better=False, same_percent=0.005),
    Figure(key="corrupted_miou_percent", lower_is_better=False, same_percent=0.005),
    Figure(key="macc_percent", lower_is_better=False, same_percent=0.005),
    Figure(key="aacc_percent", lower_is_better=False, same_percent=0.005),
)


def diff_paths(before: Path, after: Path) -> Run:
    """The comparison of two files or folders of records.

    Raises:
        UsageError: nothing in them was measured alike.
        IntegrityError: files that are no records.
    """
    return diff(read_records([before])[0], read_records([after])[0], names=(str(before), str(after)))


def diff(before: list[Run], after: list[Run], *, names: tuple[str, str] = ("before", "after")) -> Run:
    """The comparison of records, matched by command, model and conditions.

    A single record on each side is matched whatever its conditions, with a note of what differs.

    Returns:
        A Run whose breakdown "figure" has a row for each figure: before, after, change, the 95 % interval
        of the change where samples or rounds tell it, and a verdict.

    Raises:
        UsageError: nothing in them was measured alike.
    """
    watch = Stopwatch()
    pairs, notes = _pairs(before, after, names)
    rows = [row for pair in pairs for row in _compared(*pair)]
    notes += list(dict.fromkeys(note for pair in pairs for note in _differences(*pair)))
    verdicts = [row["verdict"] for row in rows]
    return Run(
        command="diff",
        model={"name": f"{names[0]} -> {names[1]}"},
        metrics={"records": len(pairs), **{word: verdicts.count(word) for word in ("better", "worse", "same")}},
        breakdown={"figure": rows},
        notes=notes,
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def demand_no_regression(run: Run, percent: float) -> None:
    """Fails where a figure is worse by more than `percent` percent and more than its noise.

    Raises:
        ToleranceError: names the figures.
    """
    beyond = [
        f"{row['model']} {row['figure']} {row['change_percent']:+.1f} %"
        for row in run.breakdown["figure"]
        if row["verdict"] == "worse" and abs(row["change_percent"]) > percent
    ]
    if beyond:
        raise ToleranceError(f"worse by more than {percent:g} %: {'; '.join(beyond)}")


def parse_percent(text: str) -> float:
    """The number of a word such as "5%" or "5".

    Raises:
        UsageError: no number, or a negative one.
    """
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise UsageError(f"impossible percentage {text!r}: give a number such as 5%")
    return value


def _pairs(before: list[Run], after: list[Run], names: tuple[str, str]) -> tuple[list[tuple[Run, Run]], list[str]]:
    if len(before) == len(after) == 1 and before[0].command == after[0].command:
        return [(before[0], after[0])], []
    old, new = _by_key(before), _by_key(after)
    pairs = [(run, new[key]) for key, run in old.items() if key in new]
    if not pairs:
        raise UsageError(
            f"nothing in {names[0]} and {names[1]} was measured alike: no two records have the same command, model "
            "and conditions"
        )
    notes = [f"only in {names[0]}: {_title(run)}" for key, run in old.items() if key not in new]
    return pairs, notes + [f"only in {names[1]}: {_title(run)}" for key, run in new.items() if key not in old]


def _by_key(runs: list[Run]) -> dict[Any, Run]:
    """The newest record of each measurement."""
    found: dict[Any, Run] = {}
    for run in sorted(runs, key=lambda run: run.started):
        conditions = tuple(str(run.conditions.get(key)) for key in _SAME_CONDITIONS)
        found[run.command, run.model.get("name"), conditions, run.status == "partial"] = run
    return found


def _title(run: Run) -> str:
    return f"{run.command} {run.model.get('name', '')}"


def _compared(before: Run, after: Run) -> list[dict[str, Any]]:
    if "failed" in (before.status, after.status):
        verdict = "same" if before.status == after.status else "worse" if after.status == "failed" else "better"
        change = {"same": 0.0, "worse": 100.0, "better": -100.0}[verdict]
        return [{"model": after.model.get("name", ""), "figure": "runs at all", "change_percent": change,
                 "verdict": verdict}]  # fmt: skip
    rows = []
    for figure in FIGURES:
        old, new = _value(before, figure.key), _value(after, figure.key)
        if old is None or new is None or old == 0:
            continue
        interval = _interval(figure, before, after)
        change = 100.0 * (new - old) / old
        rows.append(
            {
                "model": after.model.get("name", ""),
                "figure": figure.key,
                "before": old,
                "after": new,
                "change_percent": change,
                "low_percent": None if interval is None else 100.0 * (interval[0] - 1),
                "high_percent": None if interval is None else 100.0 * (interval[1] - 1),
                "verdict": _verdict(figure, change, interval),
            }
        )
    return rows


def _value(run: Run, key: str) -> float | int | None:
    # Every record of a model says how many parameters it has, be it measured or not.
    return run.metrics.get(key, run.model.get("params") if key == "params" else None)


def _interval(figure: Figure, before: Run, after: Run) -> tuple[float, float] | None:
    """Bounds of after / before."""
    if figure.from_samples:
        old, new = before.breakdown.get("sample"), after.breakdown.get("sample")
        return ratio_interval(old, new) if old and new else None
    if figure.key == "yardstick_ratio":
        # A handful of rounds is too few to draw from: the widest ratio that they allow.
        low, high = _round_ratios(before), _round_ratios(after)
        return (min(high) / max(low), max(high) / min(low)) if low and high else None
    return None


def _round_ratios(run: Run) -> list[float]:
    return [
        row["latency_ms_median"] / row["yardstick_ms_median"]
        for row in run.breakdown.get("round", [])
        if row.get("latency_ms_median") and row.get("yardstick_ms_median")
    ]


def _verdict(figure: Figure, change: float, interval: tuple[float, float] | None) -> str:
    within_noise = interval is not None and interval[0] <= 1.0 <= interval[1]
    if within_noise or abs(change) <= figure.same_percent:
        return "same"
    return "better" if (change < 0) == figure.lower_is_better else "worse"


def _differences(before: Run, after: Run) -> list[str]:
    """What else is not the same, and may be why the figures differ."""
    name = after.model.get("name", "")
    lines = [
        f"{name}: {key} {before.conditions.get(key)} -> {after.conditions.get(key)}"
        for key in (*_SAME_CONDITIONS, *_TOLD_CONDITIONS)
        if before.conditions.get(key) != after.conditions.get(key)
    ]
    hashes = before.model.get("weights_sha256"), after.model.get("weights_sha256")
    if hashes[0] != hashes[1]:
        lines.append(f"{name}: weights {str(hashes[0])[:12]} -> {str(hashes[1])[:12]}")
    if before.model.get("name") != after.model.get("name"):
        lines.append(f"model {before.model.get('name')} -> {name}")
    old, new = before.environment, after.environment
    if old is not None and new is not None:
        facts = (("processor", old.cpu, new.cpu), ("cores", old.cpu_count, new.cpu_count),
                 ("device", old.device, new.device), ("python", old.python, new.python))  # fmt: skip
        lines += [f"{title} {was} -> {now}" for title, was, now in facts if was != now]
        lines += [
            f"{package} {version} -> {new.packages.get(package)}"
            for package, version in old.packages.items()
            if new.packages.get(package) != version
        ]
    return lines
