"""The latency of a model of the zoo as a Run: the numbers, every sample, and all that would change them."""

from __future__ import annotations

import torch

from segzoo import kernels
from segzoo.device import device_name, pick_device
from segzoo.profiling.latency import STEADY, WINDOW, Latency, Scope, measure_latency
from segzoo.profiling.parameters import count_parameters
from segzoo.profiling.published import expected_latency
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Run, Stopwatch, command_line, environment


def latency_run(
    name: str,
    *,
    shape: tuple[int, int],
    batch_size: int = 1,
    device: str = "cpu",
    dtype: str = "fp32",
    threads: int | None = None,
    scope: Scope = "model",
    repetitions: int | None = None,
    compile: bool = False,
    channels_last: bool = False,
    fuse: bool = False,
) -> Run:
    """Latency and throughput of a model of the zoo with random weights; arguments as `measure_latency`.

    Raises:
        UsageError: unknown name, device or dtype, or a shape that the model cannot take.
        UnavailableError: a device that is not here.
        SegzooError: not enough memory.
    """
    watch = Stopwatch()
    place = pick_device(device)
    model = create_model(name, fuse=fuse)
    params = count_parameters(model).params
    measured = measure_latency(
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
            "compile": compile,
            "channels_last": channels_last,
            "fuse": fuse,
            **_circumstances(measured, place),
        },
        expected=expected_latency(entry(name).published, measured.quantile_ms(0.5)),
        breakdown={"sample": [{"latency_ms": sample} for sample in measured.samples_ms]},
        notes=_latency_notes(measured),
        environment=environment(device_name(place)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _circumstances(measured: Latency, place: torch.device) -> dict[str, str | int]:
    return {
        "threads": measured.threads,
        "kernels": kernels.describe(place),
        "samples": len(measured.samples_ms),
        "warm_up_calls": measured.warm_up_calls,
        "warm_up": f"until medians of {WINDOW} calls agree within {STEADY:.0%}",
        "memory": measured.memory_scope,
    }


def _latency_metrics(measured: Latency) -> dict[str, float | int | None]:
    return {
        "latency_ms_median": measured.quantile_ms(0.5),
        "latency_ms_p10": measured.quantile_ms(0.1),
        "latency_ms_p90": measured.quantile_ms(0.9),
        "latency_ms_p99": measured.quantile_ms(0.99),
        "latency_ms_min": min(measured.samples_ms),
        "latency_ms_first_call": measured.first_call_ms,
        "images_per_second": measured.images_per_second,
        "peak_memory_bytes": measured.peak_memory_bytes,
        "energy_joules_per_image": measured.energy_joules_per_image,
    }


def _latency_notes(measured: Latency) -> list[str]:
    if measured.steady:
        return kernels.notes()
    return [*kernels.notes(), f"not steady after {measured.warm_up_calls} calls of warm-up"]
