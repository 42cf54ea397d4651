"""`segzoo list` and `segzoo info`: what the zoo has. No torch."""

from __future__ import annotations

import typer

from segzoo.cli.options import Format, FormatOption, Json, Name, OptionalNames, Output
from segzoo.cli.output import emit


def list_models(
    names: OptionalNames = None,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """List the models of the zoo with their published figures."""
    from segzoo.registry import select
    from segzoo.zoo.describe import published_run

    emit([published_run(name) for name in select(names or ["*"])], format=format, json=json, output=output)


def info(name: Name, json: Json = False) -> None:
    """Show all that is known about one model: architecture, weights, protocol, recipe, sources."""
    from segzoo.zoo.describe import as_json, as_text

    typer.echo(as_json(name) if json else as_text(name))
