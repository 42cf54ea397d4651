"""`segzoo doctor`: what this machine has, and what it lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from segzoo.cli.options import Format, FormatOption, Json, Output
from segzoo.cli.output import emit


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also ask every host of weights whether it answers.")
    ] = False,
    format: FormatOption = Format.TABLE,
    json: Json = False,
    output: Output = None,
) -> None:
    """Examine Python, torch, devices, compiler, cache and data; exit with 6 where something is not in order."""
    from segzoo.doctor import demand_health, examine

    run = examine(online=online)
    emit([run], format=format, json=json, output=output, by="check")
    demand_health(run)
