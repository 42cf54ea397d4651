"""Many records -> one row for each model and setting, with all that is known about it.

Costs and scores are measured by different commands. What belongs to the model alone (parameters, operations,
mIoU, published figures) is joined to every setting (device, dtype, shape, batch) that the model was timed in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from segzoo.results import Run

TIMED = ("latency", "bench")
COUNTED = ("params", "flops", "verify", "bench")

SETTING_KEYS = (
    "device", "machine", "dtype", "input", "batch", "scope", "threads", "kernels", "backend", "compile",
    "channels_last", "fused",
)  # fmt: skip
"""What must be equal for two costs to be compared in one picture."""


@dataclass(kw_only=True)
class Entry:
    """One row of the report.

    Attributes:
        values: column -> number or text; a column that is not known is absent.
        notes: all notes and the error of the records that the row is made of.
        pictures: folders of label maps and overlays.
    """

    model: str
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    @property
    def setting(self) -> tuple[tuple[str, Any], ...]:
        """The conditions of the row's timing."""
        return tuple((key, self.values[key]) for key in SETTING_KEYS if key in self.values)


def entries(runs: Iterable[Run]) -> list[Entry]:
    """The rows, a model's together; the models in the order in which they were first measured."""
    by_model: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.started):
        if "name" in run.model:
            by_model[run.model["name"]].append(run)
    usual = _usual_input(by_model)
    return [row for name, mine in by_model.items() for row in _rows(name, mine, usual)]


def conflicts(runs: list[Run]) -> list[str]:
    """A line for each thing that makes records of one report not comparable: models, data, machines, releases."""
    lines = []
    for name, counts in _facts(runs, lambda run: run.model.get("name"), lambda run: run.model.get("params")).items():
        if len(counts) > 1:
            numbers = ", ".join(f"{count:,}" for count in counts)
            lines.append(f"{name}: records of different models, with {numbers} parameters; the newest is shown")
    weights = _facts(runs, lambda run: run.model.get("name"), lambda run: run.model.get("weights_sha256"))
    for name, hashes in weights.items():
        if len(hashes) > 1:
            short = ", ".join(str(item)[:12] for item in hashes)
            lines.append(f"{name}: evaluated with different weights ({short}); the newest is shown")
    data = _facts(runs, _data_name, lambda run: run.conditions.get("data_fingerprint"))
    for name, prints in data.items():
        if len(prints) > 1:
            short = ", ".join(str(item)[:12] for item in prints)
            lines.append(f"{name}: records of different data (fingerprints {short}); their scores cannot be compared")
    timed = [run for run in runs if run.command in TIMED and run.environment]
    machines = dict.fromkeys(_machine(run) for run in timed)
    if len(machines) > 1:
        lines.append(
            f"timed on {len(machines)} machines ({'; '.join(machines)}): "
            "compare the column × ResNet-50 rather than milliseconds"
        )
    return lines


def _rows(name: str, mine: list[Run], usual: str | None) -> list[Entry]:
    timings = _newest(mine, TIMED, lambda run: tuple(_setting(run).items()))
    # How a model does on corrupted images is no score of its own.
    plain = [run for run in mine if "corruption" not in run.conditions]
    scores = _newest(plain, ("eval",), _protocol_key)
    single = [run for run in scores if run.conditions.get("views", 1) == 1]
    several = [run for run in scores if run.conditions.get("views", 1) != 1]
    shared = _published(mine) | _score("miou_percent", single[:1]) | _score("miou_ms_percent", several[:1])
    rows = []
    settings: list[Run | None] = [*timings] or [None]
    for timing in settings:
        row = Entry(model=name, values={"model": name} | shared)
        row.values |= _counts(mine, _input(timing) if timing else usual)
        if timing is not None:
            row.values |= _setting(timing) | _costs(timing)
        used = [*single[:1], *several[:1], *([timing] if timing else [])]
        rows.append(_noted(row, [*used, *_counting(mine)]))
    for metric, extra in (("miou_percent", single[1:]), ("miou_ms_percent", several[1:])):
        for run in extra:
            row = Entry(model=name, values={"model": name} | _published(mine) | _score(metric, [run]))
            rows.append(_noted(row, [run]))
    folders = [str(run.conditions["folder"]) for run in mine if run.command == "predict" and "folder" in run.conditions]
    rows[0].pictures = folders
    return rows


def _noted(row: Entry, used: list[Run]) -> Entry:
    lines = [line for run in used for line in ([f"failed: {run.error}"] if run.error else []) + run.notes]
    row.notes = list(dict.fromkeys(lines))
    if any(run.status == "failed" for run in used):
        row.values["status"] = "failed"
    elif any(run.status == "partial" for run in used):
        row.values["status"] = "partial"
    return row


def _newest(runs: list[Run], commands: tuple[str, ...], key: Callable[[Run], Any]) -> list[Run]:
    """The newest record of each key, in the order of first occurrence; one that worked goes before one that failed."""
    chosen: dict[Any, Run] = {}
    for run in runs:
        if run.command not in commands:
            continue
        old = chosen.get(key(run))
        if old is None or (run.status != "failed", run.started) >= (old.status != "failed", old.started):
            chosen[key(run)] = run
    return list(chosen.values())


def _counting(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.command in COUNTED and run.command != "bench"]


def _published(runs: list[Run]) -> dict[str, Any]:
    """Figures of the authors: from `segzoo list`, else from what a record was compared with."""
    found: dict[str, Any] = {}
    for run in runs:
        if run.command == "list":
            found |= {
                "dataset": run.conditions.get("dataset"),
                "params_published": run.metrics.get("params_published"),
                "macs_published": run.metrics.get("macs_published"),
                "miou_published": run.metrics.get("miou_percent_published"),
                "miou_ms_published": run.metrics.get("miou_ms_percent_published"),
            }
        elif run.command == "eval" and run.expected:
            single = run.conditions.get("views", 1) == 1
            found.setdefault("miou_published" if single else "miou_ms_published", run.expected[0].value)
        for item in run.expected:
            if item.metric in ("params", "macs_by_rule"):
                found.setdefault("params_published" if item.metric == "params" else "macs_published", item.value)
    return {key: value for key, value in found.items() if value is not None}


def _score(metric: str, runs: list[Run]) -> dict[str, Any]:
    """The score of at most one evaluation, with its data and protocol."""
    if not runs or runs[0].metrics.get("miou_percent") is None:
        return {}
    run = runs[0]
    facts = {
        metric: run.metrics["miou_percent"],
        "dataset": run.conditions.get("dataset"),
        "protocol": run.conditions.get("protocol"),
        "images": run.metrics.get("images"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _counts(runs: list[Run], wanted: str | None) -> dict[str, Any]:
    """Parameters, and operations at the wanted input where there are such, else at the newest."""
    found: dict[str, Any] = {}
    operations: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.command in COUNTED and run.metrics.get("params") is not None:
            found["params"] = run.metrics["params"]
        if run.command in COUNTED and run.model.get("params") is not None:
            found.setdefault("params", run.model["params"])
        # Counts of a batch are those of its images together; the table is of one image.
        if run.command in COUNTED and run.metrics.get("macs") is not None and _batch(run) == 1:
            operations[_input(run) or ""] = {"macs": run.metrics["macs"], "flops": run.metrics.get("flops")}
    if operations:
        place = wanted if wanted in operations else list(operations)[-1]
        found |= operations[place] | {"macs_input": place}
    return found


def _costs(run: Run) -> dict[str, Any]:
    names = (
        "latency_ms_median", "latency_ms_p10", "latency_ms_p90", "latency_ms_p99", "images_per_second",
        "best_images_per_second", "best_batch_size", "peak_memory_bytes", "energy_joules_per_image", "yardstick_ratio",
    )  # fmt: skip
    return {name: run.metrics[name] for name in names if run.metrics.get(name) is not None}


def _setting(run: Run) -> dict[str, Any]:
    conditions = run.conditions
    words = {
        "device": conditions.get("device"),
        "machine": _machine(run),
        "dtype": conditions.get("dtype"),
        "input": _input(run),
        "batch": _batch(run),
        "scope": conditions.get("scope"),
        "threads": conditions.get("threads"),
        "kernels": conditions.get("kernels"),
        "backend": conditions.get("backend"),
        "compile": conditions.get("compile") or None,
        "channels_last": conditions.get("channels_last") or None,
        "fused": conditions.get("fused") or None,
    }
    return {key: value for key, value in words.items() if value is not None}


def _input(run: Run) -> str | None:
    """Height x width, such as "512x2048"."""
    shape = run.conditions.get("shape")
    return f"{shape[-2]}x{shape[-1]}" if shape else None


def _batch(run: Run) -> int:
    shape = run.conditions.get("shape")
    return shape[0] if shape and len(shape) == 4 else 1


def _machine(run: Run) -> str:
    if run.environment is None:
        return "unknown"
    return run.environment.device or f"{run.environment.cpu}, {run.environment.cpu_count} cores"


def _protocol_key(run: Run) -> tuple[Any, ...]:
    words = ("dataset", "split", "protocol", "dtype")
    return (*(run.conditions.get(word) for word in words), run.status == "partial", run.conditions.get("views", 1))


def _data_name(run: Run) -> str | None:
    dataset = run.conditions.get("dataset")
    return f"{dataset} {run.conditions.get('split')}" if run.command == "eval" and dataset else None


def _facts(runs: list[Run], key: Callable[[Run], Any], fact: Callable[[Run], Any]) -> dict[str, dict[Any, None]]:
    """key -> its different facts, in the order of first occurrence."""
    found: dict[str, dict[Any, None]] = defaultdict(dict)
    for run in runs:
        if key(run) is not None and fact(run) is not None:
            found[key(run)][fact(run)] = None
    return found


def _usual_input(by_model: dict[str, list[Run]]) -> str | None:
    """The input that most models were counted at."""
    counts = Counter(
        place
        for mine in by_model.values()
        for place in {_input(run) for run in mine if run.command in COUNTED and run.metrics.get("macs") is not None}
        if place
    )
    return counts.most_common(1)[0][0] if counts else None
