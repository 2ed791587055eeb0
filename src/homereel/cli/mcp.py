"""`homereel mcp`: lets an agent make films, over standard input and output as the Model Context Protocol has it."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.serve import become

EXAMPLES = """[bold]Example[/bold]

In an agent's list of servers:  {"command": "homereel", "args": ["mcp"]}"""


def mcp(
    *,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FOLDER", help="Where jobs are kept. By default HOMEREEL_HOME/jobs."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, max=64, metavar="N", help="Of its own; 0 where `homereel serve` has some."),
    ] = 1,
) -> None:
    """Let an agent plan and make films, and fetch them: a server for the Model Context Protocol."""
    words = ["--workers", str(workers), *([f"--data={data}"] if data else [])]
    become("homereel.server.mcp", words)
