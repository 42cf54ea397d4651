"""What a model of the zoo costs, as Runs. Counts build it on the meta device: no weights, no memory."""

from __future__ import annotations

from segzoo import kernels
from segzoo.device import device_name, pick_device
from segzoo.profiling import latency
from segzoo.profiling.operations import OperationCount, count_operations
from segzoo.profiling.parameters import count_parameters
from segzoo.profiling.published import expected_latency, expected_macs, expected_params
from segzoo.profiling.rules import get_rule
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.zoo.schema import Model

DEFAULT_SHAPE = (512, 512)
DEFAULT_RULE = "fvcore"


def params_run(name: str) -> Run:
    """Parameters of a model of the zoo, in all and by part, beside the published figure.

    Raises:
        UsageError: unknown name.
    """
    watch = Stopwatch()
    count = count_parameters(create_model(name, device="meta"))
    return Run(
        command="params",
        model={"name": name, "params": count.params},
        metrics={
            "params": count.params,
            "params_trainable": count.trainable,
            "buffers": count.buffers,
            "parameter_bytes": count.parameter_bytes,
        },
        expected=expected_params(entry(name).published, count.params),
        breakdown={"part": count.parts},
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def flops_run(name: str, *, shape: tuple[int, int] | None = None, batch_size: int = 1, rule: str | None = None) -> Run:
    """Multiply-adds and FLOPs of a model of the zoo, by part, operator and module, beside the published figure.

    Args:
        name: a name of the zoo.
        shape: input (height, width) in pixels; the published figure's where None, else 512x512.
        batch_size: images in the batch.
        rule: of `macs_by_rule`; the published figure's where None, else "fvcore".

    Raises:
        UsageError: unknown name or rule, or a shape that the model cannot take.
    """
    watch = Stopwatch()
    model_entry = entry(name)
    shape, rule = _published_conditions(model_entry, shape, rule)
    model = create_model(name, device="meta")
    count = count_operations(model, (batch_size, 3, *shape), rule=rule, resize_logits=_is_segmentor(model_entry))
    published = model_entry.published if batch_size == 1 else None
    return Run(
        command="flops",
        model={"name": name, "params": count_parameters(model).params},
        metrics={"macs_by_rule": count.macs_by_rule, "macs": count.macs, "flops": count.flops},
        conditions={
            "shape": list(count.shape),
            "rule": rule,
            "rule_meaning": get_rule(rule).meaning,
            "counted_on": "meta",
        },
        expected=expected_macs(published, shape, rule, count.macs_by_rule),
        breakdown={
            "part": count.by_part(),
            "operator": count.by_operator(),
            "module": count.by_module(),
            "not_counted": _not_counted(count),
        },
        notes=[f"no formula for {operator} ({calls} calls)" for operator, calls in count.no_formula.items()],
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def latency_run(
    name: str,
    *,
    shape: tuple[int, int],
    batch_size: int = 1,
    device: str = "cpu",
    dtype: str = "fp32",
    threads: int | None = None,
    scope: latency.Scope = "model",
    repetitions: int | None = None,
    compile: bool = False,
    channels_last: bool = False,
) -> Run:
    """Latency and throughput of a model of the zoo with random weights; arguments as `measure_latency`.

    Raises:
        UsageError: unknown name, device or dtype, or a shape that the model cannot take.
        UnavailableError: a device that is not here.
        SegzooError: not enough memory.
    """
    watch = Stopwatch()
    place = pick_device(device)
    model = create_model(name)
    params = count_parameters(model).params
    measured = latency.measure_latency(
        model,
        shape,
        batch_size=batch_size,
        device=place,
        dtype=dtype,
        threads=threads,
        scope=scope,
        protocol=get_protocol(name) if scope == "protocol" else None,
        repetitions=repetitions,
        compile=compile,
        channels_last=channels_last,
    )
    return Run(
        command="latency",
        model={"name": name, "params": params, "weights": "random"},
        metrics=_latency_metrics(measured),
        conditions={
            "shape": [batch_size, 3, *shape],
            "scope": scope,
            "protocol": entry(name).protocol if scope == "protocol" else None,
            "device": str(place),
            "dtype": dtype,
            "threads": measured.threads,
            "kernels": kernels.describe(),
            "compile": compile,
            "channels_last": channels_last,
            "samples": len(measured.samples_ms),
            "warm_up_calls": measured.warm_up_calls,
            "warm_up": f"until medians of {latency.WINDOW} calls agree within {latency.STEADY:.0%}",
            "memory": measured.memory_scope,
        },
        expected=expected_latency(entry(name).published, measured.quantile_ms(0.5)),
        breakdown={"sample": [{"latency_ms": sample} for sample in measured.samples_ms]},
        notes=_latency_notes(measured),
        environment=environment(device_name(place)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _latency_metrics(measured: latency.Latency) -> dict[str, float | int | None]:
    return {
        "latency_ms_median": measured.quantile_ms(0.5),
        "latency_ms_p10": measured.quantile_ms(0.1),
        "latency_ms_p90": measured.quantile_ms(0.9),
        "latency_ms_p99": measured.quantile_ms(0.99),
        "latency_ms_min": min(measured.samples_ms),
        "latency_ms_first_call": measured.first_call_ms,
        "images_per_second": measured.images_per_second,
        "peak_memory_bytes": measured.peak_memory_bytes,
    }


def _latency_notes(measured: latency.Latency) -> list[str]:
    if measured.steady:
        return kernels.notes()
    return [*kernels.notes(), f"not steady after {measured.warm_up_calls} calls of warm-up"]


def _published_conditions(model: Model, shape: tuple[int, int] | None, rule: str | None) -> tuple[tuple[int, int], str]:
    operations = model.published.operations if model.published else None
    if operations is None:
        return shape or DEFAULT_SHAPE, rule or DEFAULT_RULE
    return shape or operations.shape, rule or operations.rule


def _is_segmentor(model: Model) -> bool:
    return model.architecture.head is not None


def _not_counted(count: OperationCount) -> list[dict[str, str | int]]:
    kinds = (("element-wise or reduction", count.elementwise), ("no formula", count.no_formula))
    return [
        {"operator": operator, "calls": calls, "why": why}
        for why, operators in kinds
        for operator, calls in sorted(operators.items())
    ]
