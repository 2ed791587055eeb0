"""Runs the command line as a person would: words in, an exit code and two streams out, in an empty folder."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from homereel.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """What a person or a program sees of one run."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.out)
        return data

    @property
    def complaint(self) -> str:
        """The one line of a failed run; fails if there is more, or anything on stdout."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("homereel: ")
        assert self.out == ""
        return lines[0].removeprefix("homereel: ")


Cli: TypeAlias = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the present one."""
    empty = tmp_path / "here"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("generate", "a ball", stdin=b"...")` runs the real program in this process."""

    def invoke(*words: str | Path, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = run([str(word) for word in words])
        shown = capsys.readouterr()
        return Outcome(code, shown.out, shown.err)

    return invoke


@pytest.fixture
def generate(cli: Cli, tiny_model_dir: Path) -> Cli:
    """`generate("a red ball", ...)` with the tiny model."""
    return lambda *words, **more: cli("generate", *words, "--model", tiny_model_dir, **more)
