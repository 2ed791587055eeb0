"""What no one expects: still one line, an exit code, and the traceback only for who asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def explode(*_: object, **__: object) -> None:
    raise RuntimeError("first line\nsecond \x1b[31mline")


def test_unexpected_error_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homereel.media.probe", explode)
    done = cli("info", "a.mp4")
    assert done.code == 1
    assert done.complaint.startswith("unexpected RuntimeError: first line second [31mline; `homereel --debug")


def test_debug_shows_where_it_comes_from(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homereel.media.probe", explode)
    done = cli("--debug", "info", "a.mp4")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "in explode" in done.err


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "homereel.cli", *words]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_reader_that_leaves_early() -> None:
    process = subprocess.Popen(program("models", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_has_no_room() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program("--version"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr
