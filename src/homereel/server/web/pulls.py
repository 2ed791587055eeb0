"""Models on their way to this machine: one download after another, in a thread that outlives the page that asked.

A cut download goes on where it was when it is asked for again, so nothing of this need be kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from homereel.core.errors import HomereelError, Stopped, WrongState


@dataclass(frozen=True)
class Pull:
    """How far one is. `error` is a sentence when it has failed; `is_over` when nothing more will come of it."""

    model: str
    done_bytes: int = 0
    total_bytes: int = 0
    stage: str = "waits"
    bytes_per_second: float | None = None
    remaining_seconds: float | None = None
    error: str = ""
    is_over: bool = False

    @property
    def percent(self) -> int:
        """0 to 100."""
        return min(100, 100 * self.done_bytes // self.total_bytes) if self.total_bytes else 0


class Pulls:
    """All of one server. `is_closing` is asked while bytes come in, so that a server's end is not held up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pulls: dict[str, Pull] = {}
        self._stopped: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def all(self) -> dict[str, Pull]:
        """By model; those that are over stay to be seen until the model is asked for again."""
        with self._lock:
            return dict(self._pulls)

    def start(self, model: str, *, is_closing: Callable[[], bool]) -> None:
        """Fetch it. Raises WrongState if it is on its way already."""
        with self._lock:
            there = self._pulls.get(model)
            if there is not None and not there.is_over:
                raise WrongState(f"{model} is on its way already; it goes on when this page is closed")
            self._pulls[model] = Pull(model)
            self._stopped.discard(model)
        name = f"pull of {model}"
        threading.Thread(target=self._run, args=(model, is_closing), name=name, daemon=True).start()

    def stop(self, model: str) -> None:
        """End one; what has come stays for the next try."""
        with self._lock:
            self._stopped.add(model)

    def _run(self, model: str, is_closing: Callable[[], bool]) -> None:
        from homereel.models.install import pull_model
        from homereel.weights.transfer import Transfer

        def should_stop() -> bool:
            return is_closing() or model in self._stopped

        def on_transfer(transfer: Transfer) -> None:
            self._change(
                model,
                stage=transfer.stage,
                done_bytes=transfer.done_bytes,
                total_bytes=transfer.total_bytes,
                bytes_per_second=transfer.bytes_per_second,
                remaining_seconds=transfer.remaining_seconds,
            )

        try:
            with self._one_at_a_time:
                if not should_stop():
                    pull_model(model, on_transfer=on_transfer, should_stop=should_stop)
            self._change(model, is_over=True, stage="stopped" if should_stop() else "here")
        except Stopped:
            self._change(model, is_over=True, stage="stopped")
        except HomereelError as error:
            self._change(model, is_over=True, stage="failed", error=str(error))

    def _change(self, model: str, **changes: object) -> None:
        with self._lock:
            self._pulls[model] = replace(self._pulls[model], **changes)  # type: ignore[arg-type]
