"""The worker process: claims a job, works on it, claims the next; `python -m homereel.jobs.worker --data DIR`.

A launcher starts and watches it. Started by hand it works as well, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from homereel.core.errors import HomereelError, StoreUnavailable
from homereel.jobs.data import data_folder
from homereel.jobs.heartbeat import BEAT_SECONDS
from homereel.jobs.store import JobStore
from homereel.jobs.tether import tie_to_launcher
from homereel.jobs.work import Workplace

IDLE_SECONDS = 300.0
"""A model that nothing was made with for so long is freed."""

_LOOK_SECONDS = (0.1, 0.2, 0.5, 1.0)  # pauses between looks at an empty queue; the last one stays
_BROKEN_SECONDS = 2.0


def run_worker(place: Workplace, *, name: str, leaving: threading.Event, idle_seconds: float = IDLE_SECONDS) -> None:
    """Work on job after job until `leaving` is set; a job in work then goes back into the queue with its state.

    Raises StoreDamaged; a store that is only locked or full is tried again.
    """
    num_looks, idle_since = 0, time.monotonic()
    while not leaving.is_set():
        try:
            lease = place.store.claim(name, model=place.warm.model)
            if lease is not None:
                place.work(lease, leaving=leaving.is_set)
                num_looks, idle_since = 0, time.monotonic()
                continue
        except StoreUnavailable as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            leaving.wait(_BROKEN_SECONDS)
            continue
        if place.warm.is_loaded and time.monotonic() - idle_since > idle_seconds:
            place.warm.free()
        leaving.wait(_LOOK_SECONDS[min(num_looks, len(_LOOK_SECONDS) - 1)])
        num_looks += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    leaving = threading.Event()
    if options.launcher is not None:
        tie_to_launcher(options.launcher, leaving=leaving)
    for number in (signal.SIGTERM, signal.SIGINT):
        # From another thread: the signal may come while this one holds the event's own lock.
        signal.signal(number, lambda *_: threading.Thread(target=leaving.set).start())
    try:
        data = data_folder(options.data)
        with JobStore.in_folder(data) as store:
            import homereel.engine.generate  # noqa: F401  takes seconds, in which no heart could beat for a job

            place = Workplace(store, data, beat_seconds=options.beat_seconds)
            run_worker(place, name=options.name, leaving=leaving)
            place.warm.free()
    except HomereelError as error:
        print(f"{options.name}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m homereel.jobs.worker", description=__doc__)
    parser.add_argument("--data", type=Path, help="the data folder; by default `jobs` in HOMEREEL_HOME")
    parser.add_argument("--name", default=f"{_host()}-{os.getpid()}", help="how it is called; no two alike")
    parser.add_argument("--beat-seconds", type=float, default=BEAT_SECONDS, help="how often it says that it lives")
    parser.add_argument("--launcher", type=int, help=argparse.SUPPRESS)  # the process id to live and die with
    return parser


def _host() -> str:
    with suppress(OSError):
        return socket.gethostname()
    return "worker"


if __name__ == "__main__":
    sys.exit(main())
