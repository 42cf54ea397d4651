"""`segzoo params`, `segzoo flops` and `segzoo latency`: what a model costs."""

from __future__ import annotations

import functools
from enum import Enum
from typing import Annotated

import typer

from segzoo.cli.options import (
    BatchSize,
    Device,
    Dtype,
    DtypeOption,
    Format,
    FormatOption,
    Fuse,
    Json,
    Names,
    OptionalNames,
    Output,
    Quiet,
    Shape,
    parse_shape,
)
from segzoo.cli.output import emit, progress, say
from segzoo.errors import UsageError


class Breakdown(str, Enum):
    """Finer tables of a count."""

    PART = "part"
    OPERATOR = "operator"
    MODULE = "module"
    NOT_COUNTED = "not_counted"


class Scope(str, Enum):
    """What a latency covers."""

    MODEL = "model"
    PROTOCOL = "protocol"


ShapeOrPublished = Annotated[
    str | None,
    typer.Option("--shape", metavar="HxW", help="Input height and width in pixels (default: the published figure's)."),
]
RuleOption = Annotated[
    str | None,
    typer.Option(
        "--rule", help="Counting rule: fvcore, multiply-add or thop (default: the published figure's).", metavar="RULE"
    ),
]
By = Annotated[Breakdown | None, typer.Option("--by", help="Show this finer table instead of the totals.")]
Tree = Annotated[
    int | None, typer.Option("--tree", min=1, metavar="DEPTH", help="Also a tree of modules, this many levels deep.")
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Every counting convention side by side, and which gives the published figure."),
]
FlopsScope = Annotated[
    Scope,
    typer.Option("--scope", help="One input, or (protocol) a picture of --shape with all its scales and windows."),
]
Check = Annotated[bool, typer.Option("--check", help="Exit with 7 if a count is not the published one.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="PyTorch's threads on the CPU.")]
ScopeOption = Annotated[
    Scope, typer.Option("--scope", help="The network alone, or a picture through the model's test protocol.")
]
Repetitions = Annotated[
    int | None,
    typer.Option("--repetitions", min=2, help="Timed calls (default: 100, or 10 s of them, at least 10)."),
]
Compile = Annotated[bool, typer.Option("--compile", help="Run the model through torch.compile.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Channels innermost in memory.")]


def params(
    names: Names,
    check: Check = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Count parameters, in all and by part, beside the published figure."""
    from segzoo.profiling import published, records
    from segzoo.registry import select

    runs = records.of_each(select(names), "params", records.params_run)
    emit(runs, format=format, json=json, output=output)
    records.demand_all(runs)
    if check:
        published.check(runs)


def flops(
    names: Names,
    shape: ShapeOrPublished = None,
    rule: RuleOption = None,
    batch_size: BatchSize = 1,
    by: By = None,
    tree: Tree = None,
    explain: Explain = False,
    scope: FlopsScope = Scope.MODEL,
    check: Check = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Count multiply-adds (MACs) and FLOPs at a shape, beside the published figure; needs no weights."""
    from segzoo.profiling import explain as explained
    from segzoo.profiling import published, records
    from segzoo.profiling.rules import get_rule
    from segzoo.registry import select

    _demand_one_view(by is not None, tree is not None, explain, scope is Scope.PROTOCOL)
    size = parse_shape(shape) if shape else None
    count = functools.partial(records.flops_run, shape=size, batch_size=batch_size, rule=rule, tree_depth=tree)
    also = "tree" if tree is not None else None
    if explain:
        count, also = functools.partial(explained.explain_run, shape=size), "convention"
    elif scope is Scope.PROTOCOL:
        count, also = functools.partial(explained.protocol_run, shape=size or (512, 683), rule=rule), "input"
    runs = records.of_each(select(names), "flops", count)
    for used in dict.fromkeys(run.conditions["rule"] for run in runs if run.status == "ok"):
        say(f"rule {used}: {get_rule(used).meaning}", quiet=quiet)
    emit(runs, format=format, json=json, output=output, by=by.value if by else None, also=also)
    records.demand_all(runs)
    if check:
        published.check(runs)


def _demand_one_view(*asked: bool) -> None:
    if sum(asked) > 1:
        raise UsageError("--by, --tree, --explain and --scope protocol are different tables; give one of them")


def latency(
    names: Names,
    shape: Shape = "512x512",
    batch_size: BatchSize = 1,
    device: Device = "auto",
    dtype: DtypeOption = Dtype.FP32,
    threads: Threads = None,
    scope: ScopeOption = Scope.MODEL,
    repetitions: Repetitions = None,
    compile: Compile = False,
    channels_last: ChannelsLast = False,
    fuse: Fuse = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Time models with random weights: warm-up until steady, then median, p10, p90 and p99 of all samples."""
    from segzoo.profiling import records
    from segzoo.profiling.latency_record import latency_run
    from segzoo.registry import select

    measure = functools.partial(
        latency_run,
        shape=parse_shape(shape),
        batch_size=batch_size,
        device=device,
        dtype=dtype.value,
        threads=threads,
        scope=scope.value,
        repetitions=repetitions,
        compile=compile,
        channels_last=channels_last,
        fuse=fuse,
    )
    runs = records.of_each(select(names), "latency", measure)
    emit(runs, format=format, json=json, output=output)
    records.demand_all(runs)


def verify(
    names: OptionalNames = None,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Compare parameters and operations of every row with the published figures; exit 7 if one is off."""
    from segzoo.profiling.records import of_each
    from segzoo.profiling.verify import check, verify_run
    from segzoo.registry import select

    chosen = select(names or ["*"])
    runs = of_each(progress(chosen, total=len(chosen), unit="model", quiet=quiet), "verify", verify_run)
    emit(runs, format=format, json=json, output=output)
    check(runs)
