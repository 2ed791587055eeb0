"""`python -m homereel.server.mcp`: films for agents, over standard input and output (Model Context Protocol).

It works on the job store itself, with workers of its own: what an agent asked for goes on, at the latest with the next
start of this or of `homereel serve`. Who talks to it is a program of the same user, so files are named by paths.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from homereel import __version__
from homereel.core.errors import HomereelError
from homereel.jobs.data import data_folder
from homereel.jobs.launcher import Launcher, LauncherSettings
from homereel.jobs.store import JobStore
from homereel.server.intake import Intake
from homereel.server.mcp_tools import Tools
from homereel.server.planner import Planner
from homereel.server.planning_process import PlanningProcess

if TYPE_CHECKING:
    from mcp.server import MCPServer

_INSTRUCTIONS = (
    "Makes short films on this machine from words, and from a picture if the model can. Ask `plan` first: it says what "
    "would be made, and what it takes, and costs nothing. `generate` queues a film and returns its id at once; "
    "`status` waits for it; `fetch` gives the file and a sheet of its frames to look at."
)


def main() -> NoReturn:
    """The program; exits when its client closes standard input."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Serve until the client leaves; every failure becomes a line on stderr and an exit code."""
    given = _parser().parse_args(words)
    data = data_folder(None if given.data is None else Path(given.data))
    try:
        with ExitStack() as stack:
            store = stack.enter_context(JobStore.in_folder(data))
            planner = stack.enter_context(closing(Planner(PlanningProcess(), any_folder=True)))
            server = make_server(store, data=data, planner=planner)
            if given.workers:
                stack.enter_context(Launcher(data, LauncherSettings(count=given.workers)))
            server.run("stdio")
    except HomereelError as error:
        print(f"homereel: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def make_server(store: JobStore, *, data: Path, planner: Planner) -> MCPServer:
    """The server with its four tools. Raises HomereelError if the SDK is not installed."""
    try:
        from mcp.server import MCPServer
    except ModuleNotFoundError:
        raise HomereelError("the SDK of the Model Context Protocol is missing; pip install 'homereel[mcp]'") from None
    tools = Tools(store, Intake(store, data=data, planner=planner), data=data)
    server = MCPServer("homereel", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING")
    for tool in (tools.plan, tools.generate, tools.status):
        server.add_tool(tool)
    server.add_tool(tools.fetch, structured_output=False)
    return server


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="homereel mcp", allow_abbrev=False)
    parser.add_argument("--data")
    parser.add_argument("--workers", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
