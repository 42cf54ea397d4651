"""The `segzoo` command: the table of its subcommands, the global options and the one place that shows errors."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from segzoo.cli import (
    bench,
    convert,
    data,
    doctor,
    environment,
    evaluate,
    export,
    import_config,
    kernel,
    predict,
    profile,
    report,
    train,
    weights,
    zoo,
)
from segzoo.cli.processes import SaidExit
from segzoo.errors import SegzooError

app = typer.Typer(
    name="segzoo",
    help="Published semantic segmentation models: download, evaluate, count, time and train them.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
app.command("list", short_help="List the models and their published figures.")(zoo.list_models)
app.command("info", short_help="Show all that is known about one model.")(zoo.info)
app.command("download", short_help="Fetch the weights of models into the cache.")(weights.download)
app.add_typer(weights.cache, name="cache")
app.command("params", short_help="Count parameters.")(profile.params)
app.command("flops", short_help="Count multiply-adds and FLOPs.")(profile.flops)
app.command("latency", short_help="Time models.")(profile.latency)
app.command("eval", short_help="Evaluate models on their data sets.")(evaluate.evaluate)
app.command("predict", short_help="Label pictures.")(predict.predict)
app.add_typer(data.data, name="data")
app.command("train", short_help="Train a model by its published recipe.")(train.train)
app.command("pretrain", short_help="Train a backbone as a classifier first.")(train.pretrain)
app.command("verify", short_help="Hold the zoo to its published parameters and operations.")(profile.verify)
app.command("bench", short_help="Time many models and settings in one table.")(bench.bench)
app.command("report", short_help="Join records into one page.")(report.report)
app.command("compare", short_help="Compare two evaluations of the same images.")(report.compare)
app.command("diff", short_help="Compare two records or folders of records.")(report.diff)
app.command("replay", short_help="Run a record again and compare.")(report.replay)
app.command("convert", short_help="Write a checkpoint in another layout.")(convert.convert)
app.command("export", short_help="Write a model for other programs (ONNX and others).")(export.export)
app.command("import", short_help="Turn an mmsegmentation config into a manifest entry.")(import_config.import_config)
app.command("doctor", short_help="Examine this machine and installation.")(doctor.doctor)
app.add_typer(kernel.app, name="kernel")

WORDS_ERROR: Any = typer.BadParameter.__base__
"""What Typer raises where words are wrong: a class of Click, which newer versions have inside of them."""

ENDED_BY = {128 + signal.SIGINT: "interrupted", 128 + signal.SIGTERM: "ended by SIGTERM"}

# Options that hold for every command; they may stand anywhere on the command line.
_GLOBAL_FLAGS = {"--debug"}
_GLOBAL_VALUES = {"--zoo"}


@app.callback(invoke_without_command=True)
def global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    zoo_file: Annotated[
        str | None,
        typer.Option("--zoo", metavar="FILE", help="Add a manifest of your own to the built-in zoo."),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Published semantic segmentation models: download, evaluate, count, time and train them."""
    if version:
        from segzoo import __version__

        typer.echo(f"segzoo {__version__}")
        raise typer.Exit
    if zoo_file:
        known = os.environ.get("SEGZOO_ZOO")
        os.environ["SEGZOO_ZOO"] = os.pathsep.join([known, zoo_file] if known else [zoo_file])


def main() -> None:
    """Runs the command line; a SegzooError or a failed system call becomes one line and an exit code."""
    words = _global_options_first(sys.argv[1:])
    debug = "--debug" in words
    signal.signal(signal.SIGTERM, _terminate)
    environment.prepare()
    try:
        if code := app(words, prog_name="segzoo", standalone_mode=False):
            sys.exit(code)
    except WORDS_ERROR as error:
        _fail_at_words(error)
    except SegzooError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if debug or error.strerror is None:
            raise
        _fail(f"{error.strerror}: {error.filename}" if error.filename else error.strerror, 1)
    except SystemExit as ending:
        # Typer turns Ctrl-C into its code without a word.
        if ending.code in ENDED_BY and not isinstance(ending, SaidExit):
            print(f"segzoo: {ENDED_BY[ending.code]}", file=sys.stderr)
        raise


def _fail(message: str, exit_code: int) -> None:
    print(f"segzoo: error: {message}", file=sys.stderr)
    sys.exit(exit_code)


def _fail_at_words(error: Any) -> None:
    """Says in one line what is wrong with the words; without any, what words there are."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    what = " ".join(error.format_message().replace("Value error, ", "").split()).removesuffix(".")
    command = error.ctx.command_path if error.ctx is not None else "segzoo"
    _fail(f"{what}; see `{command} --help`", error.exit_code)


def _terminate(signal_number: int, frame: object) -> None:
    sys.exit(128 + signal_number)


def _global_options_first(words: list[str]) -> list[str]:
    """Moves the global options to the front, where the parser wants them; words after "--" stay."""
    front, rest = [], []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += [word, *queue]
            break
        if word in _GLOBAL_FLAGS or ("=" in word and word.partition("=")[0] in _GLOBAL_VALUES):
            front.append(word)
        elif word in _GLOBAL_VALUES and queue:
            front += [word, queue.pop(0)]
        else:
            rest.append(word)
    return front + rest


if __name__ == "__main__":
    main()
