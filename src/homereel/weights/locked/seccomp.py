"""A filter of system calls (seccomp) for this process, by which it can compute, read and write what is open, and end.

All else fails with "not permitted": opening, sockets, starting programs or threads, signals, and memory to run code
from. The filter cannot be taken off again, and holds for all threads. Standard library only.
"""

from __future__ import annotations

import ctypes
import platform
import struct

ALLOWED = (
    *("read", "write", "close", "lseek", "fstat"),
    *("munmap", "mremap", "brk", "madvise"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("futex", "sched_yield", "sched_getaffinity", "getpid", "gettid", "clock_gettime", "getrandom"),
    *("exit", "exit_group"),
)
WITHOUT_CODE = ("mmap", "mprotect")  # allowed unless the memory shall be executable: the third argument says

# Numbers of the calls, and of seccomp itself; from the kernel's unistd_64.h and asm-generic/unistd.h.
_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
    "getpid": 39, "exit": 60, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "seccomp": 317, "getrandom": 318,
}  # fmt: skip
_GENERIC = {
    "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
    "clock_gettime": 113, "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132,
    "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "getpid": 172, "gettid": 178, "brk": 214,
    "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "seccomp": 277, "getrandom": 278,
}  # fmt: skip
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _GENERIC), "riscv64": (0xC00000F3, _GENERIC)}

# Instructions of the filter's language, and where it finds what: number, architecture, third argument of the call.
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _THIRD = 0, 4, 32
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # to refuse is to fail with EPERM
_EXECUTABLE = 4
_SET_FILTER, _ALL_THREADS = 1, 1


def filter_calls() -> str | None:
    """Put the filter on; None if it is on, else why it cannot be. The process must have given up new privileges."""
    if platform.machine() not in _MACHINES:
        return f"no filter of system calls is known for {platform.machine()}"
    architecture, numbers = _MACHINES[platform.machine()]
    program = filter_program(architecture, numbers)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(numbers["seccomp"], _SET_FILTER, _ALL_THREADS, header) == 0:
        return None
    return f"this system refuses a filter of system calls (error {ctypes.get_errno()})"


def filter_program(architecture: int, numbers: dict[str, int]) -> bytes:
    """The filter in the kernel's language: one check after another, and what none allows is refused."""
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # calls in another machine's numbers
        (_LOAD, 0, 0, _NUMBER),
    ]
    for name in ALLOWED:
        steps += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    for name in WITHOUT_CODE:
        steps += [
            (_EQUAL, 0, 4, numbers[name]),
            (_LOAD, 0, 0, _THIRD),
            (_ANY_BIT, 0, 1, _EXECUTABLE),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    steps.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
