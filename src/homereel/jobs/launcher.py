"""Keeps workers alive beside a server: starts them, notices a frozen one, starts dead ones again, and takes back what
they held. When it ends, however it ends, they end with it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from homereel.core.errors import JobsError
from homereel.jobs.heartbeat import BEAT_SECONDS
from homereel.jobs.store import JobStore
from homereel.jobs.watch import LEASE_SECONDS, LeaseWatch
from homereel.jobs.worker_slot import Slot, SlotState

GRACE_SECONDS = 10.0
_LOOKS_IN_A_LEASE = 10
# A launcher that slept for so many of its rounds (a laptop closed, a container paused) knows nothing of its workers.
_MISSED_LOOKS = 5

Command = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class LauncherSettings:
    """`devices` gives each worker its GPU (CUDA_VISIBLE_DEVICES); without, all see what this process sees.

    `command` makes a worker's command line from its name. A worker renews its lease every `beat_seconds`; one that does
    not for `lease_seconds`, or that says nothing for `silent_seconds`, is frozen.
    """

    count: int = 1
    devices: tuple[str, ...] = ()
    beat_seconds: float = BEAT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    silent_seconds: float = 60.0
    command: Command | None = None


class Launcher:
    """A context manager, or `start` and `stop`. Raises what `JobStore.in_folder` raises."""

    def __init__(self, data: Path, settings: LauncherSettings | None = None) -> None:
        self._data = data.absolute()
        self._settings = settings or LauncherSettings()
        self._stopping = threading.Event()
        self._grace_seconds = GRACE_SECONDS
        self._thread: threading.Thread | None = None
        self._slots: tuple[Slot, ...] = ()
        self._broken: str | None = None
        self._said = ""

    def start(self) -> None:
        """Start the workers; returns at once."""
        assert self._thread is None, "it is started once"
        store = JobStore.in_folder(self._data)
        settings = self._settings
        command = settings.command or self._command
        self._slots = tuple(
            Slot(
                index,
                store=store,
                command=command,
                log=self._data / f"worker-{index}.log",
                device=settings.devices[index % len(settings.devices)] if settings.devices else None,
                silent_seconds=settings.silent_seconds,
            )
            for index in range(settings.count)
        )
        self._thread = threading.Thread(target=self._run, args=(store,), name="launcher", daemon=True)
        self._thread.start()

    def stop(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        """Have the workers give their jobs back and end; kill those that have not after `grace_seconds`."""
        self._grace_seconds = grace_seconds
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def problem(self) -> str | None:
        """Why there are fewer workers than there should be; None while all is well."""
        return self._broken or next((state.problem for state in self.workers() if state.problem), None)

    def workers(self) -> tuple[SlotState, ...]:
        """Each worker as it is now."""
        return tuple(slot.state() for slot in self._slots)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, name: str) -> list[str]:
        return [
            *(sys.executable, "-m", "homereel.jobs.worker", "--data", str(self._data)),
            *("--name", name, "--launcher", str(os.getpid()), "--beat-seconds", f"{self._settings.beat_seconds:g}"),
        ]

    def _run(self, store: JobStore) -> None:
        """One thread starts, watches and ends all workers: they die with the thread that started them."""
        pause = min(1.0, self._settings.lease_seconds / _LOOKS_IN_A_LEASE)
        watch = LeaseWatch(store, lease_seconds=self._settings.lease_seconds)
        last = time.monotonic()
        try:
            while not self._stopping.wait(pause):
                now = time.monotonic()
                if now - last > _MISSED_LOOKS * max(pause, 1.0):
                    for slot in self._slots:
                        slot.forgive(now)
                last = now
                self._look(watch, now)
        except BaseException as error:
            self._broken = f"the launcher broke, start it again: {type(error).__name__}: {error}"
            raise
        finally:
            for slot in self._slots:
                slot.ask_to_stop()
            until = time.monotonic() + self._grace_seconds
            for slot in self._slots:
                slot.end(until=until)
            store.close()

    def _look(self, watch: LeaseWatch, now: float) -> None:
        try:
            for slot in self._slots:
                slot.look(now)
            lost = {held.worker for held in watch.look()}
            for slot in self._slots:
                slot.kill_if_named(lost)
        except JobsError as error:  # locked, full, out of reach: the next round tries again
            if str(error) != self._said:
                print(f"launcher: {error}", file=sys.stderr, flush=True)
            self._said = str(error)
