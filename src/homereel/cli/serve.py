"""`homereel serve`: the HTTP server with its workers, in this process's place.

The server is another room on this floor, so it is started as the program that it is, `python -m homereel.server`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated, NoReturn

import typer

from homereel.core.environment import variables_with

EXAMPLES = """[bold]Examples[/bold]

homereel serve

homereel serve --port 9000 --data ~/films

homereel serve --listen 0.0.0.0 --token-file ~/.homereel-token"""

_PLACE, _DOOR, _WORK = "Where", "Who may come in, and what goes out", "How it works"


def serve(
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, metavar="N", rich_help_panel=_PLACE, help="0 takes a free one.")
    ] = 8420,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            rich_help_panel=_PLACE,
            help="Where jobs are. By default HOMEREEL_HOME/jobs.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="ADDRESS",
            rich_help_panel=_DOOR,
            help="Let other machines in, such as 0.0.0.0; needs a token. By default only this one.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            rich_help_panel=_DOOR,
            help="What clients must send. Better in a file, or in HOMEREEL_TOKEN: others can read a command line.",
        ),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file", metavar="FILE", rich_help_panel=_DOOR, help="A file that holds it; made if it is not there."
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            "--host-name", metavar="NAME", rich_help_panel=_DOOR, help="A name of this server, as clients call it."
        ),
    ] = None,
    allow_webhooks: Annotated[
        bool,
        typer.Option("--allow-webhooks", metavar="", rich_help_panel=_DOOR, help="Tell addresses that jobs name."),
    ] = False,
    allow_urls: Annotated[
        bool,
        typer.Option("--allow-urls", metavar="", rich_help_panel=_DOOR, help="Fetch pictures that requests name."),
    ] = False,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private", metavar="", rich_help_panel=_DOOR, help="Both of these within the own network, too."
        ),
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", metavar="", rich_help_panel=_DOOR, help="Nothing goes out at all.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=0, max=64, metavar="N", rich_help_panel=_WORK, help="Clips made at a time; 0 only queues."
        ),
    ] = 1,
    gpus: Annotated[
        str, typer.Option("--gpus", metavar="LIST", rich_help_panel=_WORK, help="A worker for each, such as 0,1.")
    ] = "",
    max_upload_gb: Annotated[
        float, typer.Option("--max-upload-gb", min=0.001, metavar="GB", rich_help_panel=_WORK, help="Of one file.")
    ] = 2.0,
    max_uploads_gb: Annotated[
        float,
        typer.Option("--max-uploads-gb", min=0.001, metavar="GB", rich_help_panel=_WORK, help="Of all that wait."),
    ] = 20.0,
) -> None:
    """Take requests over HTTP, and make films of them: /v1/videos as OpenAI's clients speak it, and more."""
    words = ["--port", str(port), "--workers", str(workers)]
    words += ["--max-upload-gb", str(max_upload_gb), "--max-uploads-gb", str(max_uploads_gb)]
    for name, value in (("--data", data), ("--listen", listen), ("--token-file", token_file), ("--gpus", gpus)):
        words += [f"{name}={value}"] if value else []
    words += [f"--host-name={name}" for name in host_name or []]
    flags = {
        "--allow-webhooks": allow_webhooks,
        "--allow-urls": allow_urls,
        "--allow-private": allow_private,
        "--offline": offline,
    }
    words += [name for name, is_on in flags.items() if is_on]
    become("homereel.server", words, token=token)


def become(module: str, words: list[str], *, token: str | None = None) -> NoReturn:
    """Run a module of this package in this process's place, so that whoever started us can end it; never returns."""
    command, surroundings = [sys.executable, "-m", module, *words], variables_with(token=token)
    if sys.platform == "win32":  # there a new process would only stand beside this one
        raise typer.Exit(subprocess.run(command, env=surroundings, check=False).returncode)
    sys.stdout.flush()
    os.execve(sys.executable, command, surroundings)
