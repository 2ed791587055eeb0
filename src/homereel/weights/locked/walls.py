"""Walls around this process, each by another means of Linux, so that a hole in one is no way out.

`leave_network` comes first, while there is one thread; `close_in` when all is imported; `ways_out` tries the walls.
The filter of system calls is the wall that counts: without it the process is not locked in. Standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from homereel.weights.locked.seccomp import filter_calls

SPARE_BYTES = 1024**3  # how much memory may be taken from here on
CPU_SECONDS = 120  # and how much time of a processor
FILTER = "filter of system calls"

_NEW_SPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000  # of users, network, inter-process objects, names
_DIE_WITH_PARENT, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38
_CREATE_RULES, _RESTRICT_SELF = 444, 446  # Landlock has the same numbers on all machines
# How many rights of files the versions of Landlock know, from the first.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_LATER_RIGHTS = 16
_PATH = "/homereel-is-locked-in"  # a name that no file has


def leave_network() -> str | None:
    """Go to a network of its own, in which there is nothing. None if this system does not let us."""
    if sys.platform != "linux":
        return None
    return "network of its own" if _library().unshare(_NEW_SPACES) == 0 else None


def close_in() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give up all that this process could reach: the walls that stand now, and why others do not."""
    if sys.platform != "linux":
        return (), (f"only Linux can lock a process in, and this is {sys.platform}",)
    library = _library()
    library.prctl(_DIE_WITH_PARENT, 9, 0, 0, 0)
    library.prctl(_DUMPABLE, 0, 0, 0, 0)  # no process of the same user looks into this one
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return (), ("this system does not let a process give up privileges",)
    _limit_memory()
    version = _landlock(library)
    _limit_all_else()
    reason = filter_calls()
    walls = ("limits", *([f"Landlock {version}"] if version else []), *([] if reason else [FILTER]))
    return walls, (() if reason is None else (reason,))


def ways_out() -> tuple[str, ...]:
    """What this process can still do that it must not; nothing, if it is locked in."""
    tries: dict[str, Callable[[], object]] = {
        "open files": lambda: os.close(os.open(os.devnull, os.O_RDONLY)),
        "remove files": lambda: os.unlink(_PATH),  # noqa: PTH108  # a Path would hide which call is tried
        "change files": lambda: os.chmod(_PATH, 0o600),  # noqa: PTH101
        "open sockets": lambda: socket.socket().close(),
        "run programs": lambda: os.execv(_PATH, [_PATH]),
        "start processes": _start_process,
        "send signals": lambda: os.kill(os.getpid(), 0),
        "run code from memory": lambda: mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close(),
    }
    return tuple(what for what, attempt in tries.items() if not _is_refused(attempt))


def _is_refused(attempt: Callable[[], object]) -> bool:
    """Only a refusal counts: that a file is not there says that it was looked for."""
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _start_process() -> None:
    if os.fork() == 0:
        os._exit(0)


def _limit_memory() -> None:
    """Before Landlock, behind which the system's own figures cannot be read."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * mmap.PAGESIZE + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_all_else() -> None:
    """Nothing can be opened (descriptors 0 to 2 are open), no file grows, time has an end."""
    import resource

    seconds = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + CPU_SECONDS
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _landlock(library: ctypes.CDLL) -> int:
    """Forbid every use of files, TCP, and what is outside; the version of Landlock that does it, 0 if none."""
    version = int(library.syscall(_CREATE_RULES, None, ctypes.c_size_t(0), 1))
    if version < 1:
        return 0
    rights = (1 << _FILE_RIGHTS.get(version, _LATER_RIGHTS)) - 1
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = struct.pack("=QQQ", rights, network, scopes)[:size]
    descriptor = int(library.syscall(_CREATE_RULES, rules, ctypes.c_size_t(size), 0))
    if descriptor < 0:
        return 0
    done = library.syscall(_RESTRICT_SELF, descriptor, 0) == 0
    os.close(descriptor)
    return version if done else 0


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
