"""`segzoo kernel build|status|check|clean`: the compiled operators of this machine."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from segzoo.cli.options import Json, Output, Quiet
from segzoo.cli.output import emit, say
from segzoo.errors import ToleranceError

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
def check(json: Json = False, output: Output = None, quiet: Quiet = False) -> None:
    """Verify forward and backward against the float64 reference; exit code 7 when out of tolerance."""
    from segzoo.kernels.inspect import check_run

    def tell(line: str) -> None:
        say(line, quiet=quiet) if json else typer.echo(line)

    run = check_run(tell)
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
