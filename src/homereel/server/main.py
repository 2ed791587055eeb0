"""`python -m homereel.server`: reads its options, binds its address, serves until it is told to end.

SIGTERM and Ctrl-C end it in order: no new requests, streams are closed, workers save what they are at and give it back.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from homereel.core.environment import hand_on, read_environment
from homereel.core.errors import HomereelError, InvalidRequest
from homereel.jobs.data import data_folder
from homereel.jobs.store import JobStore
from homereel.server.app import create_app
from homereel.server.settings import DEFAULT_PORT, Settings
from homereel.server.token_file import read_token

_GB = 10**9
_GRACE_SECONDS = 15  # for downloads that are under way
# Clients let go of an idle connection after 5 s, some after 60: one that the server ends meanwhile loses a request.
_KEPT_OPEN_SECONDS = 75


def main() -> NoReturn:
    """The program; exits."""
    logging.basicConfig(level=logging.WARNING, format="homereel: %(message)s", stream=sys.stderr)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a broken form is told to its sender
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Serve until the end; every failure becomes a line on stderr and an exit code."""
    try:
        settings = read_settings(words)
        hand_on(offline=settings.offline)
        JobStore.in_folder(settings.data).close()  # a damaged one is told of in one line, before anything starts
        with bound(settings) as line:
            with_workers = bool(settings.workers or settings.gpus)  # one that only queues may well idle for days
            serve(create_app(settings, warm=with_workers), settings, line=line)
    except HomereelError as error:
        tell(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def read_settings(words: Sequence[str]) -> Settings:
    """From the words of the command line. Raises InvalidRequest."""
    given = _parser().parse_args(words)
    environment = read_environment()
    token = environment.token if given.token_file is None else read_token(Path(given.token_file).expanduser())
    return Settings(
        data=data_folder(None if given.data is None else Path(given.data)),
        host=given.listen or "127.0.0.1",
        port=given.port,
        token=token,
        allowed_hosts=tuple(name.lower() for name in given.host_name),
        workers=given.workers,
        gpus=tuple(each.strip() for each in given.gpus.split(",") if each.strip()),
        allow_webhooks=given.allow_webhooks,
        allow_urls=given.allow_urls,
        allow_private=given.allow_private,
        offline=given.offline or environment.offline,
        max_upload_bytes=round(given.max_upload_gb * _GB),
        max_uploads_bytes=round(given.max_uploads_gb * _GB),
    )


def bound(settings: Settings) -> socket.socket:
    """A socket that is listened on by nobody else. Raises InvalidRequest if the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio looks at the protocol before it turns Nagle's waiting off, and each answer would take 40 ms longer.
    line = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would let two programs have one port
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((settings.host, settings.port))
    except OSError as error:
        line.close()
        raise InvalidRequest(
            f"{settings.host} port {settings.port} cannot be had: {error.strerror or error}; "
            "give another --port, or end the program that has it",
            field="port",
        ) from None
    return line


def serve(app: FastAPI, settings: Settings, *, line: socket.socket) -> None:
    """Answer requests until a signal says to end. Raises HomereelError if that never began."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    ready = f"http://{host}:{line.getsockname()[1]} takes requests; /docs lists them; jobs are kept in {settings.data}"
    server = Server(app, on_ready=lambda: tell(ready))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(server.serve(sockets=[line]))
    if not server.started:
        raise HomereelError("the server could not start; what stands above says why")


class Server(uvicorn.Server):
    """Says when it takes requests, and ends streams of events before it waits for connections to end."""

    def __init__(self, app: FastAPI, *, on_ready: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            http="h11",  # it bounds a request's headers, whatever else is installed
            ws="none",
            lifespan="on",
            timeout_keep_alive=_KEPT_OPEN_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(config)
        self._app, self._on_ready = app, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.parts.closing.set()
        await self._app.state.parts.feed.stop()
        await super().shutdown(sockets)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: submits cost the processor 3 to 18 % less with it."""
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def tell(message: str) -> None:
    """One line on stderr."""
    print(f"homereel: {message}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="homereel serve", allow_abbrev=False)
    add = parser.add_argument
    add("--port", type=int, default=DEFAULT_PORT)
    add("--data")
    add("--listen")
    add("--token-file")
    add("--host-name", action="append", default=[])
    add("--workers", type=int, default=1)
    add("--gpus", default="")
    add("--allow-webhooks", action="store_true")
    add("--allow-urls", action="store_true")
    add("--allow-private", action="store_true")
    add("--offline", action="store_true")
    add("--max-upload-gb", type=float, default=2.0)
    add("--max-uploads-gb", type=float, default=20.0)
    return parser
