"""Plans are made in a process of their own, so that the server never imports torch: that takes seconds in which no page
is answered, and hundreds of megabytes.

The child ends with whoever started it, however that ends (its standard input is closed then), and after long idling;
the next plan starts another.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from homereel.core.errors import HomereelError
from homereel.core.request import Request
from homereel.jobs.worker_death import death_reason, oom_kills
from homereel.jobs.worker_process import OWN_GROUP

if TYPE_CHECKING:
    from homereel.core.plan import Plan

_TRIES = 2
_COMMAND = (sys.executable, "-m", "homereel.server.planning_child")
# What a read or a write finds where the other side is gone, perhaps in the middle of a word.
_GONE = (OSError, EOFError, pickle.UnpicklingError)


class PlanningProcess:
    """`Plans` that are made by a child, which the first question starts; `command` is what starts it."""

    def __init__(self, *, command: Sequence[str] = _COMMAND) -> None:
        self._command = tuple(command)
        self._asking = threading.Lock()
        self._changing = threading.Lock()  # of the two below; not held while a plan is made
        self._child: _Child | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None before its start."""
        child = self._child
        return None if child is None else child.process.pid

    def ready(self) -> None:
        """Have the child started, with all that it needs."""
        self._ask(None)

    def plan(self, request: Request) -> Plan:
        """Raises what the engine raises; HomereelError if the child dies of it twice; RuntimeError for a bug in it."""
        plan: Plan = self._ask(request)
        return plan

    def close(self) -> None:
        """End the child, be it at work or not."""
        with self._changing:
            self._closed = True
            if self._child is not None:
                self._child.process.kill()
        with self._asking:  # whoever was has been told
            if self._child is not None:
                self._child.end()

    def _ask(self, question: Request | None) -> Any:
        why = ""
        with self._asking:
            for _ in range(_TRIES):
                child = self._living()
                try:
                    kind, answer = child.ask(question)
                except _GONE:
                    why = child.end()
                    continue
                if kind == "error":
                    raise answer
                if kind == "bug":
                    raise RuntimeError(f"planning broke:\n{answer}")
                return answer
        raise HomereelError(f"this could not be planned: {why}; it was tried {_TRIES} times")

    def _living(self) -> _Child:
        with self._changing:
            if self._closed:
                raise HomereelError("nothing is planned any more, as the server is ending; ask again when it is back")
            if self._child is None or self._child.process.poll() is not None:
                if self._child is not None:
                    self._child.end()
                self._child = _Child(self._command)
            return self._child


class _Child:
    """One running child. It hears no Ctrl-C of the terminal, which is for the server, and has no file of its open."""

    def __init__(self, command: Sequence[str]) -> None:
        self._oom_kills = oom_kills()
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **OWN_GROUP)
        except OSError as error:
            raise HomereelError(f"no process for planning can be started: {error}; end other programs") from None

    def ask(self, question: Request | None) -> tuple[str, Any]:
        """What it answers. Raises one of _GONE if it is dead, or dies of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(pickle.dumps(question))
        self.process.stdin.flush()
        kind, answer = pickle.load(self.process.stdout)
        return kind, answer

    def end(self) -> str:
        """Kill it if it lives, and let go of it; says why it had ended."""
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it never read is lost
                    pipe.close()
        return death_reason(code, oom_kills_before=self._oom_kills, who="the process for plans")
