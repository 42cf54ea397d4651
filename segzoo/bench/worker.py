"""One cell in a process of its own: `python -m segzoo.bench.worker JOB.json ANSWER.jsonl`.

Every answer is written as soon as it is there, so that a process that is killed loses no more than what it
was doing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from segzoo import kernels
from segzoo.bench.journal import append_line
from segzoo.bench.plan import YARDSTICK, Cell
from segzoo.bench.throughput import Trial, best_batch
from segzoo.device import device_name, pick_device
from segzoo.errors import SegzooError, UsageError
from segzoo.profiling.latency import Latency, measure_latency
from segzoo.profiling.operations import count_operations
from segzoo.profiling.parameters import count_parameters
from segzoo.profiling.protocol_cost import count_protocol
from segzoo.registry import create_model, get_protocol

THROUGHPUT_CALLS = 3


def main() -> None:
    """Does the job; a SegzooError is an answer too."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes())
    cell, answer = msgspec.convert(job["cell"], Cell), Path(sys.argv[2])
    try:
        model = build(cell)
        if job["static"]:
            append_line(answer, {"kind": "static", **static_facts(cell, model)})
        append_line(answer, {"kind": "latency", **latency_facts(cell, measured(cell, model, cell.batch_size))})
        if job["throughput"]:
            find_best_batch(cell, model, answer)
    except SegzooError as error:
        append_line(answer, {"kind": "error", "message": str(error)})


def build(cell: Cell) -> nn.Module:
    """The cell's network with random weights, folded or exported as it says.

    Raises:
        UsageError: nothing to fold, or an unknown name.
        UnavailableError: no onnxruntime.
    """
    if cell.model == YARDSTICK:
        import timm

        return timm.create_model("resnet50", pretrained=False).eval()
    model = create_model(cell.model)
    if cell.fused:
        fold = getattr(model, "fuse", None)
        if fold is None:
            raise UsageError(f"{cell.model} has nothing to fold; leave out --fuse")
        fold()
    if cell.backend == "onnxruntime":
        from segzoo.export.onnx_model import OnnxModel

        return OnnxModel.of(model, (cell.batch_size, 3, cell.height, cell.width), threads=cell.threads)
    return model


def static_facts(cell: Cell, model: nn.Module) -> dict[str, Any]:
    """Parameters and operations, of one image; for scope "protocol" those of the whole protocol."""
    plain = create_model(cell.model, device="meta") if cell.model != YARDSTICK else model
    size = (cell.height, cell.width)
    if cell.scope == "protocol":
        cost = count_protocol(plain, size, get_protocol(cell.model))
        macs, inputs = cost.macs, cost.inputs
    else:
        macs, inputs = count_operations(plain, (1, 3, *size)).macs, 1
    return {"params": count_parameters(plain).params, "macs": macs, "flops": 2 * macs, "network_inputs": inputs}


def measured(cell: Cell, model: nn.Module, batch_size: int, repetitions: int | None = None) -> Latency:
    """Latency of the cell at a batch."""
    return measure_latency(
        model,
        (cell.height, cell.width),
        batch_size=batch_size,
        device=pick_device(cell.device),
        dtype=cell.dtype,
        threads=cell.threads,
        scope=cell.scope,
        protocol=get_protocol(cell.model) if cell.scope == "protocol" else None,
        repetitions=repetitions or cell.repetitions,
        compile=cell.compile,
        channels_last=cell.channels_last,
    )


def latency_facts(cell: Cell, latency: Latency) -> dict[str, Any]:
    """What a round keeps of a measurement."""
    place = pick_device(cell.device)
    return {
        "samples_ms": latency.samples_ms,
        "first_call_ms": latency.first_call_ms,
        "warm_up_calls": latency.warm_up_calls,
        "steady": latency.steady,
        "threads": latency.threads,
        "peak_memory_bytes": latency.peak_memory_bytes,
        "memory_scope": latency.memory_scope,
        "energy_joules_per_image": latency.energy_joules_per_image,
        "device": str(place),
        "device_name": device_name(place),
        "kernels": kernels.describe(place),
        "kernel_notes": kernels.notes(),
    }


def find_best_batch(cell: Cell, model: nn.Module, answer: Path) -> None:
    """Tries batches and writes every trial."""

    def measure(batch: int) -> Trial:
        latency = measured(cell, model, batch, repetitions=THROUGHPUT_CALLS)
        return Trial(
            batch_size=batch,
            images_per_second=latency.images_per_second,
            peak_memory_bytes=latency.peak_memory_bytes,
        )

    def tell(trial: Trial) -> None:
        if trial.images_per_second is None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        append_line(answer, {"kind": "trial", **msgspec.to_builtins(trial)})

    best_batch(measure, tell)


if __name__ == "__main__":
    main()
