"""The last stop of every exception: one line on stderr that says what to do, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress

import typer

from homereel.cli.output import one_line, tell
from homereel.core.errors import HomereelError

STOPPED = 130
BROKEN_PIPE = 1  # as typer has it, which meets most of them before us
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]  # typer has no public name for it


def tell_failure(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong, without a traceback unless `debug`; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if isinstance(error, BrokenPipeError):
        _forget_stdout()
        return BROKEN_PIPE
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return tell_stopped()
    if isinstance(error, HomereelError):
        tell(str(error))
        return error.exit_code
    if isinstance(error, _USAGE_ERROR):
        return _tell_usage(error)
    if isinstance(error, OSError) and error.filename is None:
        _forget_stdout()  # most likely it was our own output that found no room
    what = one_line(str(error), limit=300)
    tell(f"unexpected {type(error).__name__}: {what}; `homereel --debug COMMAND ...` shows where it comes from")
    return 1


def tell_stopped() -> int:
    """What is said when Ctrl-C ended a command at once."""
    tell("stopped; no unfinished file was left behind")
    return STOPPED


def _tell_usage(error: Exception) -> int:
    """A wrong option or argument, as typer found it. Without any words typer has shown the help already."""
    message = one_line(str(getattr(error, "format_message", error.__str__)()), limit=500).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "homereel"
    if message:
        tell(f"{message}; see {command} --help")
    return 2


def _forget_stdout() -> None:
    """Let the interpreter's own flush at the end go nowhere instead of failing again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
