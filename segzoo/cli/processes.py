"""Commands that run in several processes: started by --nproc or torchrun, heard as one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from segzoo import paths
from segzoo.cli.output import say
from segzoo.errors import SegzooError
from segzoo.processes.endings import InterruptedRunError, PeerLostError

if TYPE_CHECKING:
    from segzoo.processes.group import Group

Processes = Annotated[int, typer.Option("--nproc", min=1, help="Processes to start on this machine.")]


class SaidExit(SystemExit):
    """An end of which all has been said."""


def rank() -> int:
    """This process's number among those that torchrun or --nproc started."""
    return int(os.environ.get("RANK", "0"))


def start_processes(count: int) -> None:
    """With --nproc above 1, runs the same words in as many processes and ends with their exit code."""
    if count == 1 or "WORLD_SIZE" in os.environ:
        return
    from segzoo.processes.start import start_processes as start

    ending = start(count, sys.argv[1:])
    if ending.message is not None:
        say(f"segzoo: error: {ending.message}")
    raise SaidExit(ending.exit_code)


@contextmanager
def one_voice(device: str, *, quiet: bool = False, backend: str | None = None) -> Iterator[Group]:
    """The group that this process is in; what several processes would say alike, one of them says.

    Args:
        device: where the command computes.
        quiet: an interruption is not mentioned.
        backend: see `joined`.
    """
    from segzoo.processes.group import joined

    group: Group | None = None
    try:
        with joined(device, backend=backend) as group:
            try:
                yield group
            except SegzooError as error:
                if not group.first_to_say(str(error)):
                    leave(error.exit_code)
                raise
    except PeerLostError as error:
        # The process that started this one says it, with the reason.
        if paths.shared_store() is not None:
            leave(error.exit_code)
        raise
    except InterruptedRunError as error:
        say(f"segzoo: {error}", quiet=quiet)
        raise SaidExit(error.exit_code) from error
    except SegzooError as error:
        if group is None and rank():
            leave(error.exit_code)
        raise
    except (KeyboardInterrupt, SystemExit) as ending:
        # All processes get the signal, and the first one says so.
        if rank():
            leave(130 if isinstance(ending, KeyboardInterrupt) else int(ending.code or 0))
        raise


def leave(exit_code: int) -> None:
    """Ends a process that has nothing to say.

    Not by sys.exit: an interpreter that ends in order waits for the other processes' connections.
    """
    os._exit(exit_code)
