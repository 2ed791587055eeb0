"""The job store under a full queue: submits a second, milliseconds of a page, memory and handles; one JSON object.

Usage: python benchmarks/jobs_store.py --jobs 1000 [--url postgresql://...] [--folder DIR] [--threads 16] [--json FILE]
One by one, every submit is on the disk before the next begins, so the disk decides: `sync_ms` is what it takes to put
4 kB there. Threads, such as a server's, wait for it together. `processor_ms` is what a submit takes of one core: on a
machine that is busy otherwise, the only figure that says something of the store.
Without --url the store is an SQLite file in a temporary folder (of DIR, to measure another disk).
"""

from __future__ import annotations

import argparse
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

from homereel.jobs.records import Lease
from homereel.jobs.store import JobStore

REQUEST = {"prompt": "a red ball bounces on a green floor", "negative_prompt": "", "model": "pocket", "seed": 7}


def measure(store: JobStore, *, num_jobs: int, num_threads: int) -> dict[str, Any]:
    """Fill the queue in two ways, and use it while it is full."""
    submit_one(store)
    before = {"handles": num_handles(), "resident_bytes": resident_bytes()}
    one_by_one = rate(lambda: [submit_one(store) for _ in range(num_jobs // 2)], num_jobs // 2)
    with ThreadPoolExecutor(num_threads) as pool:
        together = rate(lambda: list(pool.map(lambda _: submit_one(store), range(num_jobs // 2))), num_jobs // 2)
    after = {"handles": num_handles(), "resident_bytes": resident_bytes()}
    lease, middle = claim_one(store), store.queue(limit=num_jobs // 2)[-1].id
    return {
        "submits": {"one_by_one": one_by_one, f"{num_threads}_threads": together},
        "page_of_20_ms": milliseconds(store.list),
        "page_in_the_middle_ms": milliseconds(lambda: store.list(after=middle)),
        "counts_ms": milliseconds(store.counts),
        "renew_ms": milliseconds(lambda: store.renew(lease)),
        "claim_and_complete_ms": milliseconds(lambda: store.complete(claim_one(store), {"file": "clip.mp4"})),
        "claim_of_another_model_ms": milliseconds(lambda: store.give_back(claim_one(store, model="b"), "queued")),
        "empty": before,
        "full": after,
        "counts": store.counts(),
    }


def submit_one(store: JobStore) -> str:
    """Every tenth is for another model."""
    submit_one.calls += 1  # type: ignore[attr-defined]
    return store.submit(REQUEST, model="b" if submit_one.calls % 10 == 0 else "a").id  # type: ignore[attr-defined]


submit_one.calls = 0  # type: ignore[attr-defined]


def claim_one(store: JobStore, *, model: str | None = None) -> Lease:
    """The next job; there always is one."""
    lease = store.claim("bench", model=model)
    assert lease is not None
    return lease


def rate(work: Callable[[], object], count: int) -> dict[str, float]:
    """Times a second, and what one takes of the processor."""
    started, processor = time.perf_counter(), time.process_time()
    work()
    seconds, spent = time.perf_counter() - started, time.process_time() - processor
    return {"per_second": round(count / seconds, 1), "processor_ms": round(1000 * spent / count, 2)}


def milliseconds(call: Callable[[], object], *, rounds: int = 20) -> dict[str, float]:
    """The median and the worst of some calls; a first one that warms up is not counted."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return {"median": round(statistics.median(taken[1:]), 2), "worst": round(max(taken[1:]), 2)}


def sync_milliseconds(folder: Path) -> dict[str, float]:
    """What the disk takes for the least that can be kept on it."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:

        def sync() -> None:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

        return milliseconds(sync)


def num_handles() -> int | None:
    """Open files of this process, where the system tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else None


def resident_bytes() -> int | None:
    """Memory of this process, where the system tells."""
    status = Path("/proc/self/statm")
    return int(status.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--url", help="an empty database; by default a temporary SQLite file")
    parser.add_argument("--folder", type=Path, help="where to put that file")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        with JobStore.open(options.url) if options.url else JobStore.in_folder(folder / "data") as store:
            told = measure(store, num_jobs=options.jobs, num_threads=options.threads)
        about = {
            "database": "postgresql" if options.url else "sqlite",
            "sync_ms": sync_milliseconds(folder),
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
    text = json.dumps({**told, **about}, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
