"""A real server on a free port of this machine, and a real worker beside it, both in threads of the test's process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from homereel.jobs.store import JobStore
from homereel.jobs.work import Workplace
from homereel.jobs.worker import run_worker
from homereel.server.app import create_app
from homereel.server.main import Server, bound
from homereel.server.parts import Parts
from homereel.server.planner import Planner
from homereel.server.plans_here import PlansHere
from homereel.server.settings import Settings


@dataclass(frozen=True)
class Running:
    """Where it is called, and the server itself."""

    url: str
    settings: Settings
    server: Server
    parts: Parts


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """The server, from its start to its graceful end."""
    app = create_app(settings, planner=Planner(PlansHere()))
    server = Server(app)
    with bound(settings) as line:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[line])), name="server")
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            assert server.started
            yield Running(f"http://127.0.0.1:{line.getsockname()[1]}", settings, server, app.state.parts)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker on the same folder."""
    leaving = threading.Event()
    with JobStore.in_folder(settings.data) as store:
        place = Workplace(store, settings.data)
        thread = threading.Thread(target=lambda: run_worker(place, name="tester", leaving=leaving), name="worker")
        thread.start()
        try:
            yield
        finally:
            leaving.set()
            thread.join()
            place.warm.free()


def wait_for(condition: object, *, seconds: float = 60.0) -> None:
    """Look until it is so."""
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)
