"""What the displays show of the engine's reports."""

from __future__ import annotations

import re
import sys
import time
from typing import get_args

import pytest

from homereel.cli.progress import _LABELS, Display, show_progress, silent_with
from homereel.core.events import Progress, Stage


def play(display: Display) -> None:
    display.begin("2/4")
    display.update(Progress("load", 0, 1, 0.0))
    for step in range(31):
        display.update(Progress("denoise", step, 30, float(step), remaining_seconds=2.0 * (30 - step)))
    display.update(Progress("decode", 0, 1, 31.0))


def test_every_stage_has_words() -> None:
    assert set(_LABELS) == set(get_args(Stage))


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(silent=False) as display:
        play(display)
        display.show("a.mp4")
    shown = capsys.readouterr()
    assert shown.out == "a.mp4\n"
    lines = shown.err.splitlines()
    assert lines[0] == "homereel: 2/4 loading"
    assert lines[1:5] == [
        "homereel: 2/4 denoising 0/30 about 1 min 0 s left",
        "homereel: 2/4 denoising 8/30 about 44.0 s left",
        "homereel: 2/4 denoising 15/30 about 30.0 s left",
        "homereel: 2/4 denoising 23/30 about 14.0 s left",
    ]
    assert lines[5:] == ["homereel: 2/4 decoding"]


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(silent=True) as display:
        play(display)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["exam", "bench", "fidelity"])
def test_long_work_draws_its_bar_beside_json_in_a_terminal_alone(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    assert import_module(f"homereel.cli.{command}").silent_with is silent_with
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        assert silent_with(as_json=True) is not is_terminal
        assert not silent_with(as_json=False)


def test_bar_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress(silent=False) as display:
        display.begin("2/4")
        display.update(Progress("denoise", 10, 30, 1.0, remaining_seconds=75.0))
        time.sleep(0.6)  # it draws itself four times a second
        display.tell("width 100 is [no] multiple")
        display.stopping()
        display.show("[b]a.mp4")
    shown = capsys.readouterr()
    assert shown.out == "[b]a.mp4\n"
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.err)
    assert "homereel: width 100 is [no] multiple\n" in drawn
    assert "2/4 denoising" in drawn
    assert "10/30" in drawn
    assert "about 1 min 15 s left" in drawn
    assert "stopping after this step" in drawn
