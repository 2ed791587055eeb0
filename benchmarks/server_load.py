"""The HTTP server under a full queue: submits a second by one client and by several, milliseconds of a page, and the
server's memory and open handles before and after, without those of the process that plans for it. A real server on
loopback, without a worker; one JSON object.

Usage: python benchmarks/server_load.py [--jobs 1000] [--clients 4] [--model pocket] [--json FILE]

Each submit is planned, and is on the disk before it is answered: `sync_ms` is what the disk takes to keep 4 kB.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from served import Served, served

WISH = {"prompt": "a red ball bounces on a green floor", "seconds": "2", "seed": 7}


class Client:
    """One connection that is kept open, as programs keep it."""

    def __init__(self, port: int) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON; anything but 2xx ends the measurement."""
        content = None if body is None else json.dumps(body)
        self._line.request(method, path, content, {"content-type": "application/json"} if content else {})
        answer = self._line.getresponse()
        told = answer.read()
        if not 200 <= answer.status < 300:
            raise SystemExit(f"{method} {path} was answered {answer.status}: {told[:500]!r}")
        return json.loads(told)

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        self._line.close()


def measure(server: Served, *, num_jobs: int, num_clients: int, model: str) -> dict[str, Any]:
    """Fill the queue in two ways, then use it while it is full."""
    clients = [Client(server.port) for _ in range(num_clients)]
    first, wish = clients[0], {**WISH, "model": model}
    started = time.perf_counter()
    first.ask("POST", "/v1/videos", wish)
    first_seconds = round(time.perf_counter() - started, 2)  # the process that plans is started with it
    for client in clients * 5:
        client.ask("POST", "/v1/videos", wish)
        client.ask("GET", "/v1/videos?limit=100")
    num_before = 1 + 5 * num_clients

    def submit(client: Client, count: int) -> None:
        for _ in range(count):
            client.ask("POST", "/v1/videos", wish)

    before = {"jobs": num_before, **_held_idle(server, clients)}
    alone = _rate(lambda: submit(first, num_jobs // 2), num_jobs // 2, server=server)
    half = {"jobs": num_before + num_jobs // 2, **_held_idle(server, clients)}
    each = num_jobs // 2 // num_clients
    with ThreadPoolExecutor(num_clients) as pool:
        together = _rate(
            lambda: list(pool.map(lambda client: submit(client, each), clients)), each * num_clients, server=server
        )
    full = {"jobs": num_before + num_jobs // 2 + each * num_clients, **_held_idle(server, clients)}
    queue = first.ask("GET", "/api/v1/queue?limit=500")
    middle = queue["data"][-1]["id"]

    def read(path: str) -> dict[str, float | None]:
        return _milliseconds(lambda: first.ask("GET", path), server=server)

    return {
        "first_submit_seconds": first_seconds,
        "submits": {"one_client": alone, f"{num_clients}_clients": together},
        "plan_ms": _milliseconds(lambda: first.ask("POST", "/api/v1/plan", {**wish, "seconds": 2}), server=server),
        "page_of_20_ms": read("/v1/videos"),
        "page_of_100_ms": read("/v1/videos?limit=100"),
        "page_in_the_middle_ms": read(f"/v1/videos?after={middle}"),
        "retrieve_ms": read(f"/v1/videos/{middle}"),
        "before": before,
        "half_full": half,
        "full": full,
        "full_and_read": {"jobs": sum(queue["counts"].values()), **_held_idle(server, clients)},
    }


def _held_idle(server: Served, clients: list[Client]) -> dict[str, int | None]:
    """What the server holds when nobody is connected; the next request connects again."""
    for client in clients:
        client.close()
    time.sleep(0.5)
    return server.held()


def _rate(work: Callable[[], object], count: int, *, server: Served) -> dict[str, float | None]:
    """How many a second by the clock, and what one takes of the server's processor."""
    cpu, started = server.cpu_seconds(), time.perf_counter()
    work()
    rate = round(count / (time.perf_counter() - started), 1)
    return {"a_second": rate, "cpu_ms_each": _since(cpu, count, server=server)}


def _since(cpu: float | None, count: int, *, server: Served) -> float | None:
    now = server.cpu_seconds()
    return None if cpu is None or now is None else round(1000 * (now - cpu) / count, 2)


def _milliseconds(
    call: Callable[[], object], *, server: Served | None = None, rounds: int = 20
) -> dict[str, float | None]:
    """The median and the worst of some calls, and the server's processor; a first one that warms up is not counted."""
    call()
    cpu, taken = None if server is None else server.cpu_seconds(), []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    told: dict[str, float | None] = {"median": round(statistics.median(taken), 2), "worst": round(max(taken), 2)}
    return told if server is None else {**told, "cpu_each": _since(cpu, rounds, server=server)}


def _sync_milliseconds(folder: Path) -> dict[str, float | None]:
    with tempfile.NamedTemporaryFile(dir=folder) as file:

        def sync() -> None:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

        return _milliseconds(sync)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--folder", type=Path, help="where the queue is kept meanwhile")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        load_before = os.getloadavg() if hasattr(os, "getloadavg") else None
        with served(Path(name) / "data") as server:
            told = measure(server, num_jobs=given.jobs, num_clients=given.clients, model=given.model)
        about = {
            "sync_ms": _sync_milliseconds(Path(name)),
            "load_average": {"before": load_before, "after": os.getloadavg() if load_before else None},
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
    text = json.dumps({**told, **about}, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
