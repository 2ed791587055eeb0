"""What hostile code would do inside the locked process, to be called there by its name: every way out that we know.

It runs behind the walls, and tells what came of each attempt: the kind of error, or "done".
"""
# ruff: noqa  # plain calls, so that each is the one that it says

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable

# Calls that Python has no function for, by their numbers on x86_64.
_RAW = {"openat2": 437, "io_uring_setup": 425, "memfd_create": 319, "ptrace": 101, "process_vm_readv": 310}
_RAW |= {"pidfd_open": 434, "bpf": 321, "keyctl": 250, "setns": 308, "mount": 165, "reboot": 169, "clone3": 435}


def attack(data: bytes) -> dict[str, str]:
    """Try everything; `data` names a folder that may be written, a file with a secret, and a port that listens."""
    given = json.loads(data)
    folder, secret, port = given["folder"], given["secret"], given["port"]
    tries: dict[str, Callable[[], object]] = {
        "read a file": lambda: open(secret, "rb").read(),
        "write a file": lambda: open(f"{folder}/stolen", "w").write("x"),
        "append to a file": lambda: open(secret, "ab").write(b"x"),
        "list a folder": lambda: os.listdir(folder),
        "look at a file": lambda: os.stat(secret),
        "remove a file": lambda: os.unlink(secret),
        "rename a file": lambda: os.rename(secret, f"{folder}/moved"),
        "cut a file": lambda: os.truncate(secret, 0),
        "link a file": lambda: os.link(secret, f"{folder}/linked"),
        "link by name": lambda: os.symlink(secret, f"{folder}/named"),
        "make a folder": lambda: os.mkdir(f"{folder}/made"),
        "change rights": lambda: os.chmod(secret, 0o777),
        "go to a folder": lambda: os.chdir(folder),
        "go through /proc": lambda: open("/proc/self/environ").read(),
        "open a socket": lambda: socket.socket().connect(("127.0.0.1", port)),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), timeout=2),
        "send a datagram": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX),
        "resolve a name": lambda: socket.getaddrinfo("localhost", port),
        "make a pair of sockets": socket.socketpair,
        "make a pipe": os.pipe,
        "run a program": lambda: subprocess.run(["/bin/sh", "-c", f"touch {folder}/ran"], check=True),
        "become a program": lambda: os.execv("/bin/true", ["/bin/true"]),
        "start a process": _fork,
        "start a thread": lambda: threading.Thread(target=print).start(),
        "stop the parent": lambda: os.kill(os.getppid(), signal.SIGTERM),
        "lift the limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "import something new": lambda: __import__("xml.dom.minidom"),
        "take 8 GB": lambda: bytearray(8 * 1024**3),
    }
    told = {name: _outcome(attempt) for name, attempt in tries.items()}
    told["use a shell"] = "refused" if os.system(f"touch {folder}/shell") != 0 else "done"
    if platform.machine() == "x86_64":
        told |= {name: _raw(number) for name, number in _RAW.items()}
    return told


def hang(data: bytes) -> None:
    while True:
        pass


def echo(data: bytes) -> str:
    return data.decode()


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except BaseException as error:
        return type(error).__name__
    return "done"


def _raw(number: int) -> str:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    result = library.syscall(number, 0, 0, 0, 0, 0, 0)
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())


def talk(data: bytes) -> str:
    return "x" * int(data)


def fail(data: bytes) -> None:
    raise ValueError("two\nlines")


def end(data: bytes) -> None:
    os._exit(3)
