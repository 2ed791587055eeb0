"""`homereel serve` and `homereel mcp` become the programs that they stand for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from homereel.cli.app import run
from homereel.server.main import read_settings
from homereel.server.main import run as run_server

TOKEN = "a-token-that-nobody-would-ever-guess"


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """What would have been run in this process's place."""
    seen: list[tuple[list[str], dict[str, str]]] = []

    def note(program: str, words: Sequence[str], surroundings: dict[str, str]) -> None:
        assert program == sys.executable
        seen.append((list(words), surroundings))

    monkeypatch.setattr(os, "execve", note)
    return seen


def test_serve_hands_on_every_option(became: list[tuple[list[str], dict[str, str]]], tmp_path: Path) -> None:
    words = ["--port", "9000", "--data", str(tmp_path), "--listen", "0.0.0.0", "--token", TOKEN, "--workers", "2"]
    words += ["--host-name", "films.lan", "--host-name", "Films", "--gpus", "0,1", "--offline", "--allow-webhooks"]
    words += ["--allow-urls", "--allow-private", "--max-upload-gb", "1.5", "--max-uploads-gb", "3"]
    assert run(["serve", *words]) == 0
    ((command, surroundings),) = became
    assert command[1:3] == ["-m", "homereel.server"]
    assert TOKEN not in " ".join(command)  # where any user of the machine could read it
    assert surroundings["HOMEREEL_TOKEN"] == TOKEN
    os.environ["HOMEREEL_TOKEN"] = TOKEN
    try:
        settings = read_settings(command[3:])
    finally:
        del os.environ["HOMEREEL_TOKEN"]
    assert (settings.port, settings.host, settings.data) == (9000, "0.0.0.0", tmp_path)
    assert (settings.token, settings.gpus, settings.workers) == (TOKEN, ("0", "1"), 2)
    assert settings.allowed_hosts == ("films.lan", "films")
    assert settings.offline
    assert settings.allow_webhooks
    assert settings.allow_urls
    assert settings.allow_private
    assert (settings.max_upload_bytes, settings.max_uploads_bytes) == (1_500_000_000, 3_000_000_000)


def test_without_options_it_is_local_and_kept_at_home(became: list[tuple[list[str], dict[str, str]]]) -> None:
    assert run(["serve"]) == 0
    settings = read_settings(became[0][0][3:])
    assert settings.is_local
    assert settings.token is None
    assert settings.data == Path(os.environ["HOMEREEL_HOME"]) / "jobs"
    assert not (settings.allow_webhooks)
    assert not (settings.allow_urls)
    assert not (settings.allow_private)


def test_mcp_becomes_its_server(became: list[tuple[list[str], dict[str, str]]], tmp_path: Path) -> None:
    assert run(["mcp", "--data", str(tmp_path), "--workers", "0"]) == 0
    assert became[0][0][1:] == ["-m", "homereel.server.mcp", "--workers", "0", f"--data={tmp_path}"]


def test_case_45_a_damaged_database_is_told_in_one_line_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "jobs.sqlite3"
    database.write_bytes(b"this was a database once" * 400)
    assert run_server(["--port", "0", "--workers", "0", "--data", str(tmp_path)]) == 1
    complaint = capsys.readouterr().err
    assert str(database) in complaint
    assert complaint.count("\n") == 1
    assert database.read_bytes() == b"this was a database once" * 400
