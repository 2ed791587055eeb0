"""Ties a worker to its launcher, so that neither outlives the other unseen.

The launcher's end of the worker's standard input asks it to stop (a line) or ends it (closed, as by kill -9). Over its
standard output the worker says each second that it is not frozen. On Linux the kernel ends it with its launcher, too,
which also reaches a worker that is stopped or busy.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

STOP = b"stop\n"
ALIVE = b"."
ALIVE_SECONDS = 1.0
ORPHANED = 3
_PR_SET_PDEATHSIG = 1


def tie_to_launcher(pid: int, *, leaving: threading.Event) -> None:
    """For the worker's first moments; ends the process if its launcher is gone already. What libraries print goes to
    standard error from here on.
    """
    die_with_parent()
    if hasattr(os, "getppid") and sys.platform != "win32" and os.getppid() != pid:
        os._exit(ORPHANED)
    alive = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for work in (lambda: _listen(leaving), lambda: _say_alive(alive)):
        threading.Thread(target=work, name="tether", daemon=True).start()


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends; Linux only. It is the thread that started it whose end
    counts, so a launcher's thread starts all workers and stays.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _listen(leaving: threading.Event) -> None:
    said = b""
    while word := os.read(sys.stdin.fileno(), 64):
        said += word
        if STOP in said:
            leaving.set()
    os._exit(ORPHANED)


def _say_alive(pipe: int) -> None:
    while True:
        try:
            os.write(pipe, ALIVE)
        except OSError:
            os._exit(ORPHANED)
        time.sleep(ALIVE_SECONDS)
