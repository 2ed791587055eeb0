"""`homereel train pocket` hands on what was asked, and nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for the training; keeps what it was called with."""
    calls: list[Any] = []

    def train(folder: Path, **options: Any) -> Path:
        calls.append((folder, options))
        return folder / "pocket"

    monkeypatch.setattr("homereel.training.pocket.train_pocket", train)
    return calls


def test_large_clips_on_request(cli: Cli, asked: list[Any]) -> None:
    cli("train", "pocket", "--from", "pocket", "--large", "0.4")
    recipe = asked[0][1]["recipe"]
    assert recipe.transformer.large_share == 0.4
    assert 0 < recipe.num_large < recipe.num_clips
    assert cli("train", "pocket", "--large", "1").code == 2


def test_whole_recipe_by_default(cli: Cli, asked: list[Any]) -> None:
    from homereel.training.pocket import STAGES, PocketRecipe

    assert cli("train", "pocket").code == 0
    assert asked == [(Path("runs/pocket"), {"recipe": PocketRecipe(), "stages": STAGES, "start_from": None})]


def test_one_stage_for_some_minutes(cli: Cli, asked: list[Any]) -> None:
    done = cli("train", "pocket", "--folder", "here", "--stage", "text", "--minutes", "2.5")
    assert done.code == 0
    [(folder, options)] = asked
    assert folder == Path("here")
    assert options["stages"] == ("text",)
    assert options["recipe"].minutes == 2.5


def test_a_trained_model_is_trained_on(cli: Cli, asked: list[Any], tiny_model_dir: Path) -> None:
    assert cli("train", "pocket", "--from", tiny_model_dir).code == 0
    assert asked[0][1]["start_from"] == tiny_model_dir
    refused = cli("train", "pocket", "--from", "nowhere")
    assert refused.code == 2
    assert "nowhere" in refused.complaint


def test_unknown_stage(cli: Cli, asked: list[Any]) -> None:
    from homereel.training.pocket import STAGES

    done = cli("train", "pocket", "--stage", "vae")
    assert done.code == 2
    assert ", ".join(STAGES) in done.complaint
    assert not asked


def test_missing_matplotlib_is_told_before_the_work(
    cli: Cli, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "homereel.cli.train_pocket.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    done = cli("train", "pocket")
    assert done.code == 1
    assert "homereel[train]" in done.complaint
    assert not asked


def test_ctrl_c_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("homereel.training.pocket.train_pocket", interrupted)
    done = cli("train", "pocket")
    assert done.code == 130
    assert "goes on from the last checkpoint" in done.complaint
