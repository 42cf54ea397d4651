"""The counts of a model of the zoo as Runs. Models are built on the meta device: no weights, no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from segzoo.errors import SegzooError
from segzoo.profiling.operations import OperationCount, count_operations
from segzoo.profiling.parameters import count_parameters
from segzoo.profiling.published import expected_macs, expected_params
from segzoo.profiling.rules import get_rule
from segzoo.protocol import Protocol
from segzoo.registry import create_model, entry, get_protocol
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.zoo.schema import Model

DEFAULT_SHAPE = (512, 512)
DEFAULT_RULE = "fvcore"


def of_each(names: Iterable[str], command: str, make: Callable[[str], Run]) -> list[Run]:
    """One Run for each model; in a family, one that fails is a failed Run and does not lose the others.

    Raises:
        SegzooError: what `make` raises, when there is one model only.
    """
    runs: list[Run] = []
    errors = []
    for name in names:
        try:
            runs.append(make(name))
        except SegzooError as error:
            errors.append(error)
            runs.append(Run(command=command, model={"name": name}, status="failed", error=str(error)))
    if errors and len(runs) == 1:
        raise errors[0]
    return runs


def demand_all(runs: list[Run]) -> None:
    """Fails after the table where a model has failed.

    Raises:
        SegzooError: names the models.
    """
    failed = [run.model["name"] for run in runs if run.status == "failed"]
    if failed:
        raise SegzooError(f"{len(failed)} of {len(runs)} models failed: {', '.join(failed)}")


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


def flops_run(
    name: str,
    *,
    shape: tuple[int, int] | None = None,
    batch_size: int = 1,
    rule: str | None = None,
    tree_depth: int | None = None,
) -> Run:
    """Multiply-adds and FLOPs of a model of the zoo, by part, operator and module, beside the published figure.

    Args:
        name: a name of the zoo.
        shape: input (height, width) in pixels; where None the published figure's, else the protocol's window,
            else 512x512.
        batch_size: images in the batch.
        rule: of `macs_by_rule`; the published figure's where None, else "fvcore".
        tree_depth: also a breakdown "tree" of modules with all that lies below them, this many levels deep.

    Raises:
        UsageError: unknown name or rule, or a shape that the model cannot take.
    """
    watch = Stopwatch()
    model_entry = entry(name)
    shape, rule = published_conditions(model_entry, shape, rule)
    model = create_model(name, device="meta")
    count = count_operations(model, (batch_size, 3, *shape), rule=rule, resize_logits=True)
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
            **({} if tree_depth is None else {"tree_depth": tree_depth}),
        },
        expected=expected_macs(published, shape, rule, count.macs_by_rule),
        breakdown=_tables(model, count, tree_depth),
        notes=[f"no formula for {operator} ({calls} calls)" for operator, calls in count.no_formula.items()],
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _tables(model: nn.Module, count: OperationCount, tree_depth: int | None) -> dict[str, list[dict[str, Any]]]:
    tables = {
        "part": count.by_part(),
        "operator": count.by_operator(),
        "module": count.by_module(),
        "not_counted": _not_counted(count),
    }
    return tables if tree_depth is None else tables | {"tree": count.tree(model, tree_depth)}


def published_conditions(model: Model, shape: tuple[int, int] | None, rule: str | None) -> tuple[tuple[int, int], str]:
    """(height, width) and counting rule: those given, else the published figure's, else the usual ones."""
    operations = model.published.operations if model.published else None
    if operations is None:
        return shape or _usual_shape(get_protocol(model.protocol)), rule or DEFAULT_RULE
    return shape or operations.shape, rule or operations.rule


def _usual_shape(protocol: Protocol) -> tuple[int, int]:
    """The protocol's window, or the default shape brought up to a size that the protocol gives the network."""
    if protocol.crop is not None:
        return protocol.crop
    divisor = protocol.size_divisor or 1
    height, width = DEFAULT_SHAPE
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _not_counted(count: OperationCount) -> list[dict[str, Any]]:
    kinds = (("element-wise or reduction", count.elementwise), ("no formula", count.no_formula))
    return [
        {"operator": operator, "calls": calls, "why": why}
        for why, operators in kinds
        for operator, calls in sorted(operators.items())
    ]
