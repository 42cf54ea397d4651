"""Records made up for the tests of reports and comparisons."""

from __future__ import annotations

from segzoo.bench.jobs import Outcome
from segzoo.results import Environment, Expected, Run

MACHINE = Environment(
    segzoo="0.1.0", python="3.11.7", platform="Linux", cpu="Test CPU", cpu_count=2, packages={"torch": "2.15.0"}
)


def published(name: str, *, miou: float, params: float = 50e6, dataset: str = "ade20k") -> Run:
    metrics = {"params_published": params, "macs_published": None, "miou_percent_published": miou}
    return Run(command="list", model={"name": name}, metrics=metrics, conditions={"dataset": dataset})


def counted(name: str, *, params: int, macs: int, shape: tuple[int, int] = (512, 512)) -> Run:
    within = Expected(
        metric="params", value=1.01 * params, source="https://example.org/paper", measured=params,
        difference=-0.01 * params, tolerance=0.02 * params, within=True,
    )  # fmt: skip
    return Run(
        command="flops",
        model={"name": name, "params": params},
        metrics={"macs": macs, "flops": 2 * macs, "macs_by_rule": macs},
        conditions={"shape": [1, 3, *shape], "rule": "fvcore"},
        expected=[within],
        environment=MACHINE,
        started="2026-01-01T00:00:00+00:00",
    )


def timed(name: str, *samples_ms: float, rounds: int = 1, **changes) -> Run:
    ordered = sorted(samples_ms)
    each = len(samples_ms) // rounds
    conditions = {
        "shape": [1, 3, 512, 512], "device": "cpu", "dtype": "fp32", "scope": "model", "threads": 1,
        "kernels": "reference",
    }  # fmt: skip
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return Run(
        command="latency",
        model={"name": name},
        metrics={"latency_ms_median": median, "peak_memory_bytes": 2**30, "images_per_second": 1000 / median},
        conditions=conditions | changes.pop("conditions", {}),
        breakdown={"sample": [{"latency_ms": ms, "round": index // each} for index, ms in enumerate(samples_ms)]},
        environment=changes.pop("environment", MACHINE),
        started=changes.pop("started", "2026-01-02T00:00:00+00:00"),
        **changes,
    )


def evaluated(name: str, classes: dict[str, float], *, fingerprint: str = "f1", views: int = 1, **changes) -> Run:
    return Run(
        command="eval",
        model={"name": name},
        metrics={"miou_percent": sum(classes.values()) / len(classes), "images": 10},
        conditions={
            "dataset": "ade20k",
            "split": "val",
            "protocol": "ade20k-whole",
            "views": views,
            "data_fingerprint": fingerprint,
            "dtype": "fp32",
        },
        breakdown={"class": [{"class": name, "iou_percent": value} for name, value in classes.items()]},
        environment=MACHINE,
        **changes,
    )


def outcome(*samples_ms: float, trials: list | None = None, **machine) -> Outcome:
    """One round of a cell of a benchmark."""
    latency = {
        "samples_ms": list(samples_ms), "first_call_ms": 99.0, "warm_up_calls": 11, "steady": True, "threads": 1,
        "peak_memory_bytes": int(samples_ms[0]) * 1000, "memory_scope": "all", "energy_joules_per_image": None,
        "device": "cpu", "device_name": None, "kernels": "reference", "kernel_notes": [],
    }  # fmt: skip
    static = {"params": 7, "macs": 5, "flops": 10, "network_inputs": 1}
    return Outcome(latency=latency, static=static, trials=trials or [], machine=machine)
