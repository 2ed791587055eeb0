"""Where a run of `homereel` begins and ends; the commands stand in commands.py.

Neither this nor a command's file imports torch, numpy or pydantic before they are needed: help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated, NoReturn

import typer

from homereel import __version__
from homereel.cli.commands import Commands
from homereel.cli.failures import STOPPED, tell_failure, tell_stopped
from homereel.cli.output import tolerate_any_text


def _version(asked: bool) -> None:
    if asked:
        print(f"homereel {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="homereel",
    cls=Commands,
    help="Text in, finished video out, on your own machine.",
    epilog="First film:  homereel generate 'a red ball bounces on a green floor' -o ball.mp4",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def common(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", help="Show the version and leave.", callback=_version),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show where an error comes from. Goes before the command.")
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> NoReturn:
    """The program `homereel`: run the command of this process's arguments, and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; every failure becomes a line on stderr. Returns the exit code."""
    debug = "--debug" in takewhile(lambda word: word.startswith("-"), arguments)
    tolerate_any_text()
    try:
        code = app(args=list(arguments), prog_name="homereel", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # the end of the road: all become an exit code
        return tell_failure(error, debug=debug)
    if code == STOPPED:  # typer caught a Ctrl-C
        return tell_stopped()
    return code if isinstance(code, int) else 0
