"""`segzoo kernel build|status|check|clean|bench`: the compiled operators of this machine."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated

import typer

from segzoo.cli.options import Json, Output, Quiet
from segzoo.cli.output import emit, say
from segzoo.errors import SegzooError, ToleranceError
from segzoo.results import Run, write_text_atomically

app = typer.Typer(
    help="Compile, inspect and verify the operators that PyTorch lacks.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


class Kind(str, enum.Enum):
    """The kinds of device that have compiled operators."""

    cpu = "cpu"
    cuda = "cuda"


@app.command()
def build(
    force: Annotated[bool, typer.Option("--force", help="Compile again even if the library is there.")] = False,
    device: Annotated[Kind, typer.Option("--device", help="The kind of device to compile for.")] = Kind.cpu,
    cuda_arch: Annotated[
        str, typer.Option("--cuda-arch", help="CUDA architectures, such as 80,90; by default this machine's.")
    ] = "",
    json: Json = False,
) -> None:
    """Compile the operators for this machine, unless that is done."""
    from segzoo.kernels.inspect import build_run, text_of

    run = build_run(again=force, device=device.value, architectures=[cuda_arch] if cuda_arch else [])
    emit([run], json=True) if json else typer.echo(text_of(run))


@app.command()
def status(json: Json = False) -> None:
    """Show compiler, cache and which kernel a run would use. Compiles nothing."""
    from segzoo.kernels.inspect import status_run, text_of

    run = status_run()
    emit([run], json=True) if json else typer.echo(text_of(run))


@app.command()
def check(
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or auto.")] = "cpu",
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Verify forward and backward against the float64 reference; exit code 7 when out of tolerance."""
    from segzoo.kernels.inspect import check_run

    def tell(line: str) -> None:
        say(line, quiet=quiet) if json else typer.echo(line)

    run = check_run(tell, device)
    if json or output:
        emit([run], json=True, output=output)
    if run.status == "failed":
        raise ToleranceError(run.error or "the kernel is out of tolerance")


@app.command()
def clean(json: Json = False) -> None:
    """Remove everything that was compiled; the next use compiles again."""
    from segzoo.kernels.inspect import clean_run, text_of

    run = clean_run()
    emit([run], json=True) if json else typer.echo(text_of(run))


@app.command()
def bench(
    rows: Annotated[
        list[str] | None, typer.Argument(metavar="[ROW...]", help="Claims, or globs (default: all).")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of PyTorch and of the rivals.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds, for a look; marks the result partial.")] = False,
    device: Annotated[Kind, typer.Option("--device", help="Whose claims; cuda runs each row and more on its own.")] = (
        Kind.cpu
    ),
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="With --device cuda: run its sections on the CPU with small problems.")
    ] = False,
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Measure every claim of speed on this machine against a rival in the same process, in turn with it."""
    from segzoo.kernel_bench.run import bench_run
    from segzoo.report.kernel_bench import text_of

    def tell(line: str) -> None:
        say(line, quiet=quiet)

    if device == Kind.cuda:
        run = _bench_on_a_gpu(rows or [], quick, rehearse, tell)
    else:
        run = bench_run(rows or [], threads=threads, quick=quick, tell=tell)
    if output is not None:
        write_text_atomically(output, run.to_json() + "\n")
    typer.echo(run.to_json() if json else text_of(run))
    if failed := run.metrics.get("sections_failed"):
        raise SegzooError(f"{failed} of {run.metrics['sections']} sections failed; the notes say why")


def _bench_on_a_gpu(rows: list[str], quick: bool, rehearse: bool, tell: Callable[[str], None]) -> Run:
    from segzoo.kernel_bench.cuda_run import bench_cuda

    return bench_cuda(rows, quick=quick, rehearse=rehearse, tell=tell)
