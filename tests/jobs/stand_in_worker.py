"""A worker process as homereel.jobs.worker starts it, but with the stand-in for the engine: it is there in a second.

Usage: python -m tests.jobs.stand_in_worker DATA NAME LAUNCHER
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from homereel.jobs.store import JobStore
from homereel.jobs.tether import tie_to_launcher
from homereel.jobs.work import Workplace
from homereel.jobs.worker import run_worker
from tests.jobs.stand_in import NoModel, make


def main() -> None:
    data, name, launcher = sys.argv[1:]
    leaving = threading.Event()
    tie_to_launcher(int(launcher), leaving=leaving)
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    with JobStore.in_folder(Path(data)) as store:
        place = Workplace(store, Path(data), warm=NoModel(), make=make, beat_seconds=0.05)
        run_worker(place, name=name, leaving=leaving)


main()
