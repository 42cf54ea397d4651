"""`segzoo flops --explain` and `--scope protocol` as Runs."""

from __future__ import annotations

from typing import Any

from segzoo.profiling.conventions import conventions
from segzoo.profiling.parameters import count_parameters
from segzoo.profiling.protocol_cost import count_protocol
from segzoo.profiling.published import OPERATIONS_TOLERANCE, published_macs
from segzoo.profiling.records import published_conditions
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Run, Stopwatch, command_line, environment


def explain_run(name: str, *, shape: tuple[int, int] | None = None) -> Run:
    """Counts by every convention side by side; those that give the published figure say so.

    Raises:
        UsageError: unknown name, or a shape that the model cannot take.
    """
    watch = Stopwatch()
    model_entry = entry(name)
    used, rule = published_conditions(model_entry, shape, None)
    model = create_model(name)
    operations = model_entry.published.operations if model_entry.published else None
    same_shape = operations is not None and set(operations.shape) == set(used)
    published = published_macs(operations) if operations is not None and same_shape else None
    rows: list[dict[str, Any]] = []
    for item in conventions(model, (1, 3, *used)):
        difference = None if item.macs is None or published is None else (item.macs - published) / published
        rows.append(
            {
                "convention": item.name,
                "macs_g": None if item.macs is None else round(item.macs / 1e9, 3),
                "to_published": None if difference is None else f"{100 * difference:+.2f} %",
                "reproduces": None,
                "difference": difference,
                "printed as": item.printed,
                "leaves out": item.leaves_out,
            }
        )
    differences = [abs(row["difference"]) for row in rows if row["difference"] is not None]
    for row in rows:
        row["reproduces"] = _verdict(row.pop("difference"), min(differences, default=0.0))
    notes = [] if published is not None else ["no count is published for this shape"]
    return Run(
        command="flops explained",
        model={"name": name, "params": count_parameters(model).params},
        metrics={"macs_published": published},
        conditions={"shape": [1, 3, *used], "rule": rule},
        breakdown={"convention": rows},
        notes=notes,
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _verdict(difference: float | None, nearest: float) -> str | None:
    """ "yes" within the tolerance of printed figures; of those that are, the nearest is marked."""
    if difference is None:
        return None
    if abs(difference) > OPERATIONS_TOLERANCE:
        return "no"
    return "yes, nearest" if abs(difference) == nearest else "yes"


def protocol_run(name: str, *, shape: tuple[int, int], rule: str | None = None) -> Run:
    """Operations of one picture by the model's protocol: every scale, mirror image and window.

    Args:
        name: a name of the zoo.
        shape: (height, width) of the picture in pixels.
        rule: of `macs_by_rule`; the published figure's where None.

    Raises:
        UsageError: unknown words, or a picture that the protocol cannot take.
    """
    watch = Stopwatch()
    _, used = published_conditions(entry(name), None, rule)
    model = create_model(name, device="meta")
    cost = count_protocol(model, shape, get_protocol(name), rule=used)
    return Run(
        command="flops of a protocol",
        model={"name": name, "params": count_parameters(model).params},
        metrics={
            "macs_by_rule": cost.macs_by_rule,
            "macs": cost.macs,
            "flops": 2 * cost.macs,
            "network_inputs": cost.inputs,
        },
        conditions={"shape": [1, 3, *shape], "rule": used, "scope": "protocol", "protocol": entry(name).protocol},
        breakdown={"input": cost.rows},
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )
