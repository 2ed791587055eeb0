"""Ctrl-C: a real one to a real process, and what each part does with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from homereel.cli import clips, progress
from homereel.cli.stop import StopSwitch
from homereel.core.events import Progress
from tests.cli.conftest import Cli


@pytest.mark.skipif(sys.platform == "win32", reason="signals of this kind are not there")
def test_ctrl_c_stops_a_running_clip(folder: Path, tiny_model_dir: Path) -> None:
    words = ["generate", "a ball", "-m", str(tiny_model_dir), "--steps", "1000", "--size", "96x96", "-o", "a.mp4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "homereel.cli", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "denoising" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "decoding" not in err
    assert err.splitlines()[-1] == "homereel: stopped; no file was written"
    assert out == ""
    assert list(folder.iterdir()) == []


def test_ctrl_c_stops_within_a_step(generate: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    class CtrlCAtTheThird(progress._Silent):
        def update(self, report: Progress) -> None:
            if report.stage == "denoise":
                steps.append(report.step)
                if report.step == 3:
                    signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress, "_Silent", CtrlCAtTheThird)
    done = generate("a ball", "--steps", "9", "-o", "a.mp4", "-q")
    assert done.code == 130
    assert done.complaint == "stopped; no file was written"
    assert steps[-1] == 3
    assert list(folder.iterdir()) == []


def test_first_signal_asks_second_ends_at_once() -> None:
    """In a process of its own, as the second one is left to the system: it also ends a long computation."""
    script = """
import signal
from homereel.cli.stop import StopSwitch
with StopSwitch(on_asked=lambda: print("asked", flush=True)) as switch:
    assert not switch()
    signal.raise_signal(signal.SIGINT)
    assert switch()
    signal.raise_signal(signal.SIGINT)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == "asked\n"


def test_second_signal_while_writing_leaves_time_to_clean_up() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSwitch(on_asked=lambda: None) as switch:
        with switch.writing():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert switch()
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_while_writing_leaves_nothing(generate: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        assert any(path.name.startswith(".homereel-") for path in folder.iterdir())
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupt)
    done = generate("a ball", "-o", "a.mp4", "-q")
    assert done.code == 130
    assert "stopped" in done.complaint
    assert list(folder.iterdir()) == []


def test_stop_keeps_the_clips_that_are_whole(generate: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AfterTheFirst(StopSwitch):
        def __call__(self) -> bool:
            return Path("a-1.mp4").exists()

    monkeypatch.setattr(clips, "StopSwitch", AfterTheFirst)
    done = generate("a ball", "-n", "3", "-o", "a.mp4", "-q")
    assert done.code == 130
    assert done.err == "homereel: stopped; whole and kept: a-1.mp4\n"
    assert done.out == "a-1.mp4\n"
    assert [path.name for path in folder.iterdir()] == ["a-1.mp4"]
