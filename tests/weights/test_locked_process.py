"""The walls of the locked process, tried from inside by code that wants out; and what becomes of its answers."""

from __future__ import annotations

import json
import platform
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from homereel.weights.locked import process, seccomp
from homereel.weights.locked.process import Answer, CallFailed, NotLocked, call_locked

LOCKABLE = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64", "riscv64")
needs_linux = pytest.mark.skipif(not LOCKABLE, reason="only Linux locks a process in")
PAYLOAD = "tests.weights.locked_payload:"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that somebody could connect to, and never waits."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@needs_linux
def test_hostile_code_inside_reaches_nothing(tmp_path: Path, listener: socket.socket) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    given = {"folder": str(tmp_path), "secret": str(secret), "port": listener.getsockname()[1]}
    found = call_locked(PAYLOAD + "attack", json.dumps(given).encode())
    assert isinstance(found.value, dict)
    assert len(found.value) >= 28
    assert {name: outcome for name, outcome in found.value.items() if outcome == "done"} == {}
    assert found.value["read a file"] == found.value["open a socket"] == "PermissionError"
    assert found.value["take 8 GB"] == "MemoryError"
    assert "filter of system calls" in found.walls
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert secret.read_text() == "a secret"
    with pytest.raises(BlockingIOError):
        listener.accept()


@needs_linux
def test_what_code_outside_could_do_is_refused_inside_only(tmp_path: Path) -> None:
    """So that the test above cannot pass because its attempts were wrong."""
    from tests.weights import locked_payload

    secret = tmp_path / "secret"
    secret.write_text("a secret")
    assert locked_payload._outcome(secret.read_bytes) == "done"
    assert locked_payload._outcome(lambda: socket.socket().close()) == "done"


@needs_linux
def test_bytes_go_in_and_the_answer_comes_out() -> None:
    text = "a long text, " * 100_000  # more than a pipe holds
    assert call_locked(PAYLOAD + "echo", text.encode()).value == text


@needs_linux
@pytest.mark.parametrize(
    ("function", "message"), [("fail", "ValueError: two"), ("end", "more memory or time"), ("talk", "too long")]
)
def test_a_call_that_fails_says_so(function: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(CallFailed, match=message):
        call_locked(PAYLOAD + function, b"2000")


@needs_linux
def test_a_call_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_TIME_LIMIT_SECONDS", 1.0)
    with pytest.raises((CallFailed, NotLocked)):  # on a busy machine it has not even started by then
        call_locked(PAYLOAD + "hang", b"")


def test_what_is_not_locked_gets_nothing_unless_it_is_trusted() -> None:
    with pytest.raises(NotLocked, match="a test says so"):
        call_locked("tests.weights.unlocked_payload:answer", b"hello")
    trusted = call_locked("tests.weights.unlocked_payload:answer", b"hello", trusted=True)
    assert trusted == Answer("answered hello", walls=())


@needs_linux
def test_a_wall_with_a_hole_is_found_before_the_bytes_are_given() -> None:
    with pytest.raises(NotLocked, match=r"it could still open files, .*open sockets, .*start processes"):
        call_locked("tests.weights.leaky_payload:answer", b"hello")


def test_a_process_that_does_not_start_is_not_locked() -> None:
    with pytest.raises(NotLocked, match="does not start"):
        call_locked("tests.weights.no_such_payload:answer", b"hello")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_the_filter_lets_through_what_it_names_and_nothing_else(machine: str) -> None:
    architecture, numbers = seccomp._MACHINES[machine]
    program = seccomp.filter_program(architecture, numbers)
    allowed = {number for number in range(1024) if _verdict(program, architecture, number) == "allow"}
    assert allowed == {numbers[name] for name in (*seccomp.ALLOWED, *seccomp.WITHOUT_CODE)}
    for name in seccomp.WITHOUT_CODE:
        assert _verdict(program, architecture, numbers[name], third=3) == "allow"
        assert _verdict(program, architecture, numbers[name], third=7) == "refuse"
    assert _verdict(program, architecture, numbers["read"] | 0x40000000) == "refuse", "the other numbering of x86"
    assert _verdict(program, 0x40000003, numbers["read"]) == "kill"


def _verdict(program: bytes, architecture: int, number: int, *, third: int = 0) -> str:
    """What the kernel would do with a call: the filter's few instructions, carried out."""
    call = struct.pack("=IIQQQQ", number, architecture, 0, 0, 0, third)
    steps, at, value = list(struct.iter_unpack("=HBBI", program)), 0, 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x06:
            return {0x7FFF0000: "allow", 0x00050001: "refuse", 0x80000000: "kill"}[operand]
        if code == 0x20:
            (value,) = struct.unpack_from("=I", call, operand)
        else:
            at += yes if (value == operand if code == 0x15 else value & operand) else no
