"""Why a worker process ended, in words that help: its exit code, its signal, and whether memory ran out."""

from __future__ import annotations

import signal
from pathlib import Path

_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def oom_kills() -> tuple[int, ...]:
    """How many processes Linux has killed for want of memory: in this container, on this machine; empty elsewhere."""
    return tuple(count for path in _COUNTERS if (count := _counter(path)) is not None)


def death_reason(code: int, *, oom_kills_before: tuple[int, ...], last_words: str = "", who: str = "its worker") -> str:
    """A line on a process that ended with this code of `subprocess`; compare the counters of its start with now's."""
    if code >= 0:
        return f"{who} ended with exit code {code}" + (f": {last_words}" if last_words else "")
    name = _signal_name(-code)
    if -code != getattr(signal, "SIGKILL", 9):
        return f"{who} crashed with {name}" + (f": {last_words}" if last_words else "")
    if any(now > before for now, before in zip(oom_kills(), oom_kills_before, strict=False)):
        return (
            f"{who} was killed ({name}) as the machine's memory ran out; "
            "ask for a smaller size or fewer frames, or close other programs"
        )
    return f"{who} was killed ({name}), by someone or because the machine's memory ran out"


def _counter(path: Path) -> int | None:
    try:
        for line in path.read_text().splitlines():
            word, _, count = line.partition(" ")
            if word == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
