"""A place for one worker: whoever dies there is followed by another, after pauses that grow, up to a limit."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homereel.core.errors import JobsError
from homereel.jobs.store import JobStore
from homereel.jobs.worker_process import WorkerProcess

MAX_FAILURES = 5
"""A worker that dies so often in a row, without a job and soon after its start, is not started again."""

_SOON_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 30.0


@dataclass(frozen=True)
class SlotState:
    """What a page on the server's health tells of a worker."""

    name: str
    status: Literal["running", "waiting", "given up", "stopped"]
    pid: int | None
    num_starts: int
    problem: str | None


class Slot:
    """Used by the launcher's thread alone, but for `state`."""

    def __init__(
        self,
        index: int,
        *,
        store: JobStore,
        command: Callable[[str], Sequence[str]],
        log: Path,
        device: str | None,
        silent_seconds: float,
    ) -> None:
        self._index, self._store, self._command, self._log = index, store, command, log
        self._environment = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        self._silent_seconds = silent_seconds
        self._process: WorkerProcess | None = None
        self._name = f"worker-{index}"
        self._failures = self._num_starts = 0
        self._lost_a_job = False  # the present worker, by its silence
        self._not_before = 0.0
        self._problem: str | None = None
        self._stopped = False

    def state(self) -> SlotState:
        """As it is now."""
        process, given_up = self._process, self._failures >= MAX_FAILURES
        status: Literal["running", "waiting", "given up", "stopped"] = (
            "running" if process else "stopped" if self._stopped else "given up" if given_up else "waiting"
        )
        return SlotState(self._name, status, process.pid if process else None, self._num_starts, self._problem)

    def look(self, now: float) -> None:
        """See to it that a worker lives here. Raises JobsError; then call it again."""
        if self._process is None:
            if self._failures < MAX_FAILURES and now >= self._not_before:
                self._start(now)
        elif self._process.poll() is not None:
            self._bury(now)
        elif now - self._process.heard > self._silent_seconds:
            self._process.kill()
            self._bury(now, reason=f"its worker was frozen for {self._silent_seconds:g} s, and was killed")

    def kill_if_named(self, lost: set[str]) -> None:
        """Kill a worker that lost its lease by its silence: it must not go on working beside the next one."""
        if self._process is not None and self._name in lost:
            self._process.kill()
            self._lost_a_job = True

    def forgive(self, now: float) -> None:
        """Begin to listen anew, after a time in which nothing could be heard."""
        if self._process is not None:
            self._process.heard = now

    def ask_to_stop(self) -> None:
        """No other worker is started here from now on."""
        self._stopped = True
        if self._process is not None:
            self._process.ask_to_stop()

    def end(self, *, until: float) -> None:
        """Wait for the worker to end, by then kill it, and take back what it held."""
        while self._process is not None and self._process.poll() is None:
            if time.monotonic() > until:
                self._process.kill()
            time.sleep(0.02)
        if self._process is not None:
            with suppress(JobsError):  # then whoever watches next will see that its lease is not renewed
                self._take_back("its worker was ended with its launcher")
            self._process.close()
            self._process = None

    def _start(self, now: float) -> None:
        """Each process has a name of its own, so that a lease always tells whether its holder is the one that died."""
        self._name = f"worker-{self._index}-{os.getpid()}-{secrets.token_hex(4)}"
        self._num_starts += 1
        self._lost_a_job = False
        try:
            self._process = WorkerProcess(self._command(self._name), log=self._log, environment=self._environment)
        except OSError as error:
            self._failed(now, f"no worker can be started: {error}")

    def _bury(self, now: float, *, reason: str | None = None) -> None:
        """A dead worker's job is taken back at once. A death at work is the job's matter, which has a limit of its
        own; other deaths are this installation's.
        """
        assert self._process is not None
        why = reason or self._process.death()
        had_job = self._take_back(why) or self._lost_a_job
        lived = now - self._process.started
        self._process.close()
        self._process = None
        if had_job or lived > _SOON_SECONDS:
            self._failures, self._problem, self._not_before = 0, None, now + _FIRST_PAUSE_SECONDS
        else:
            self._failed(now, why)

    def _failed(self, now: float, why: str) -> None:
        self._failures += 1
        self._not_before = now + min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1))
        if self._failures >= MAX_FAILURES:
            self._problem = (
                f"{self._failures} workers ended one after the other before they took a job, so no more are started: "
                f"{why}; see {self._log}, and start again when that is mended"
            )

    def _take_back(self, reason: str) -> bool:
        """Whether it held anything."""
        held = [lease for lease in self._store.leases() if lease.worker == self._name]
        for lease in held:
            self._store.revoke(lease.job_id, lease.token, reason=reason)
        return bool(held)
