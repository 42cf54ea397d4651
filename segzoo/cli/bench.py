"""`segzoo bench`: many models and settings, one table."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli.options import Dtype, Format, FormatOption, Json, OptionalNames, Quiet
from segzoo.cli.output import emit, say
from segzoo.errors import UsageError


class Scope(str, Enum):
    """What a latency covers."""

    MODEL = "model"
    PROTOCOL = "protocol"


class Backend(str, Enum):
    """What runs the network."""

    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"


Suite = Annotated[
    Path | None,
    typer.Option("--suite", metavar="FILE", help="YAML list of blocks (models, devices, dtypes, shapes, ...)."),
]
Devices = Annotated[list[str], typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps; may be repeated.")]
Dtypes = Annotated[list[Dtype], typer.Option("--dtype", help="Number format; may be repeated.")]
Shapes = Annotated[
    list[str], typer.Option("--shape", metavar="HxW", help="Input height and width in pixels; may be repeated.")
]
BatchSizes = Annotated[list[int], typer.Option("--batch-size", "-b", min=1, help="Images a call; may be repeated.")]
Scopes = Annotated[
    list[Scope], typer.Option("--scope", help="The network alone, or a picture through the protocol; may be repeated.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="PyTorch's threads on the CPU.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Times that all cells are gone through.")]
Repetitions = Annotated[
    int | None,
    typer.Option("--repetitions", min=2, help="Timed calls of a round (default: 100, or 10 s of them, at least 10)."),
]
Throughput = Annotated[bool, typer.Option("--throughput", help="Also look for the batch with the highest rate.")]
Compile = Annotated[bool, typer.Option("--compile", help="Run the models through torch.compile.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Channels innermost in memory.")]
Fuse = Annotated[bool, typer.Option("--fuse", help="Fold batch norms before measuring.")]
BackendOption = Annotated[Backend, typer.Option("--backend", help="What runs the network.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the output of an earlier run.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Longest seconds of one process.")]
BenchOutput = Annotated[Path, typer.Option("--output", "-o", help="Append the records to this file (JSON lines).")]


def bench(
    names: OptionalNames = None,
    suite: Suite = None,
    device: Devices = ["auto"],  # noqa: B006  (Typer copies it)
    dtype: Dtypes = [Dtype.FP32],  # noqa: B006
    shape: Shapes = ["512x512"],  # noqa: B006
    batch_size: BatchSizes = [1],  # noqa: B006
    scope: Scopes = [Scope.MODEL],  # noqa: B006
    threads: Threads = None,
    rounds: Rounds = 3,
    repetitions: Repetitions = None,
    throughput: Throughput = False,
    compile: Compile = False,
    channels_last: ChannelsLast = False,
    fuse: Fuse = False,
    backend: BackendOption = Backend.TORCH,
    resume: Resume = False,
    timeout: Timeout = 600.0,
    output: BenchOutput = Path("bench.jsonl"),
    format: FormatOption = Format.TABLE,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Time models in processes of their own, in rounds, beside a fixed ResNet-50; failures are rows too."""
    if suite is not None and names:
        raise UsageError("a suite names its own models; leave out either the names or --suite")
    from segzoo.bench.plan import Block, read_suite
    from segzoo.bench.run import bench as run_bench
    from segzoo.profiling.records import demand_all

    if suite is not None:
        cells = read_suite(suite)
    else:
        block = Block(
            models=tuple(names or ["*"]),
            devices=tuple(device),
            dtypes=tuple(item.value for item in dtype),
            shapes=tuple(shape),
            batch_sizes=tuple(batch_size),
            scopes=tuple(item.value for item in scope),
            threads=(threads,),
            compile=compile,
            channels_last=channels_last,
            fuse=fuse,
            backend=backend.value,
            repetitions=repetitions,
        )
        cells = block.cells()
    runs = list(
        run_bench(
            cells,
            output,
            rounds=rounds,
            throughput=throughput,
            resume=resume,
            timeout_s=timeout,
            tell=lambda line: say(line, quiet=quiet),
        )
    )
    emit(runs, format=format, json=json)
    demand_all(runs)
