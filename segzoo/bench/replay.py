"""Runs again what a record describes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from segzoo.bench.plan import Cell
from segzoo.errors import UsageError
from segzoo.results import Run

AUG_TEST = " + aug-test"


def replay(run: Run) -> Run:
    """A new record of the same model, conditions and command.

    Raises:
        UsageError: a record of another command, or one that failed.
        SegzooError: whatever the command itself raises.
    """
    again = {
        "params": _params,
        "flops": _flops,
        "verify": _verify,
        "latency": _latency,
        "bench": _bench,
        "eval": _evaluation,
    }
    if run.command not in again:
        raise UsageError(f"a record of {run.command!r} cannot be run again; records of {', '.join(again)} can")
    if run.status == "failed":
        raise UsageError(
            f"the record of {run.model.get('name')} failed ({run.error}); there is nothing to compare with"
        )
    return again[run.command](run)


def _params(run: Run) -> Run:
    from segzoo.profiling.records import params_run

    return params_run(run.model["name"])


def _flops(run: Run) -> Run:
    from segzoo.profiling.records import flops_run

    batch, _, height, width = run.conditions["shape"]
    return flops_run(run.model["name"], shape=(height, width), batch_size=batch, rule=run.conditions["rule"])


def _verify(run: Run) -> Run:
    from segzoo.profiling.verify import verify_run

    return verify_run(run.model["name"])


def _latency(run: Run) -> Run:
    from segzoo.profiling.latency_record import latency_run

    conditions = run.conditions
    batch, _, height, width = conditions["shape"]
    return latency_run(
        run.model["name"],
        shape=(height, width),
        batch_size=batch,
        device=conditions["device"],
        dtype=conditions["dtype"],
        threads=conditions["threads"] if conditions["device"] == "cpu" else None,
        scope=conditions["scope"],
        repetitions=conditions["samples"],
        compile=conditions["compile"],
        channels_last=conditions["channels_last"],
    )


def _bench(run: Run) -> Run:
    from segzoo.bench.run import bench

    conditions = run.conditions
    batch, _, height, width = conditions["shape"]
    cell = Cell(
        model=run.model["name"],
        device=conditions["device"],
        dtype=conditions["dtype"],
        height=height,
        width=width,
        batch_size=batch,
        scope=conditions["scope"],
        threads=conditions["threads"] if conditions["device"] == "cpu" else None,
        compile=conditions["compile"],
        channels_last=conditions["channels_last"],
        fused=conditions["fused"],
        backend=conditions["backend"],
        repetitions=conditions["repetitions"],
    )
    with tempfile.TemporaryDirectory(prefix="segzoo-replay-") as folder:
        output = Path(folder) / "bench.jsonl"
        return next(iter(list(bench([cell], output, rounds=conditions["rounds"], throughput="batch" in run.breakdown))))


def _evaluation(run: Run) -> Run:
    from segzoo.evaluation import Setup, evaluate_name
    from segzoo.registry import names

    conditions = run.conditions
    name = run.model["name"]
    if name not in names():
        raise UsageError(f"{name!r} is no model of the zoo; the record is of a model made in Python")
    images, total = run.metrics["images"], conditions["dataset_images"]
    protocol: str = conditions["protocol"]
    setup = Setup(
        dataset=word_after(run.command_line, "--dataset") or conditions["dataset"],
        split=conditions["split"],
        data_root=word_after(run.command_line, "--data-root"),
        protocol=protocol.removesuffix(AUG_TEST),
        aug_test=protocol.endswith(AUG_TEST),
        checkpoint=word_after(run.command_line, "--checkpoint"),
        strict="--no-strict" not in run.command_line,
        fuse=conditions.get("fuse", False),
        device=conditions["device"],
    )
    return evaluate_name(
        name,
        setup,
        dtype=conditions["dtype"],
        compile=conditions.get("compile", False),
        corruption=conditions.get("corruption"),
        limit=int(images) if images is not None and images < total else None,
    )


def word_after(words: list[str], option: str) -> Any:
    """The value of an option on a command line, as two words or as one with "="; None where it is not there."""
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None
