"""`homereel train distill|sparse|merge` hand on what was asked, and refuse before the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homereel.training.distillation.recipe import Size, large_recipe, pocket_recipe
from tests.cli.conftest import Cli

COMMANDS = ("distill", "sparse", "merge")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for the work; keeps what it was called with."""
    calls: list[Any] = []

    def work(*given: Any, **options: Any) -> Path:
        calls.append((given, options))
        return Path("made")

    monkeypatch.setattr("homereel.training.distill.distill", work)
    monkeypatch.setattr("homereel.training.sparse_tuning.tune_sparse", work)
    monkeypatch.setattr("homereel.training.merge.merge_models", work)
    return calls


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_is_for(cli: Cli, name: str) -> None:
    done = cli("train", name, "--help")
    assert done.code == 0
    assert "student" in done.out


def test_pocket_and_its_recipe_by_default(cli: Cli, asked: list[Any]) -> None:
    from homereel.training.distill import STAGES

    assert cli("train", "distill").code == 0
    [(given, options)] = asked
    assert given == ("pocket", Path("runs/distill"))
    wanted = {"recipe": pocket_recipe(), "prompts": None, "stages": STAGES, "shared": False, "start_from": None}
    assert options == wanted


def test_every_option_arrives(cli: Cli, asked: list[Any], tmp_path: Path) -> None:
    prompts, recipe = tmp_path / "prompts.txt", tmp_path / "recipe.json"
    prompts.write_text("a dog")
    recipe.write_text('{"guidance": 5}')
    words = ("--folder", "here", "--minutes", "90", "--prompts", prompts, "--stage", "student", "--shared")
    assert cli("train", "distill", *words, "--from", "another", "--recipe", recipe).code == 0
    assert cli("train", "distill", "--recipe", "large").code == 0
    (given, options), (_, large) = asked
    assert given == ("pocket", Path("here"))
    assert (options["recipe"].minutes, options["recipe"].guidance) == (90, 5)
    assert (options["prompts"], options["stages"], options["shared"]) == (prompts, ("student",), True)
    assert options["start_from"] == "another"
    assert large["recipe"] == large_recipe()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("distill", "--stage", "export"), "prompts, trajectories, student"),
        (("distill", "--prompts", "nowhere.txt"), "nowhere.txt"),
        (("distill", "--recipe", "nowhere.json"), "nowhere.json"),
        (("distill", "--model", "pokcet"), "pocket"),
        (("sparse", "--size", "large"), "WIDTHxHEIGHT"),
        (("sparse", "--clips", "nowhere"), "nowhere"),
        (("sparse", "--order", "columns"), "give one of thw, twh"),
        (("merge", "--student", "nowhere", "--sparse", "pocket", "--to", "new"), "nowhere"),
    ],
)
def test_what_is_wrong_is_told(cli: Cli, asked: list[Any], words: tuple[str, ...], told: str) -> None:
    done = cli("train", *words)
    assert done.code == 2
    assert told in done.complaint
    assert not asked


def test_sparse_tuning_takes_a_size(cli: Cli, asked: list[Any]) -> None:
    done = cli("train", "sparse", "--size", "208x112", "--ratio", "0.2", "--first-layers", "0", "--minutes", "30",
               "--order", "wth")  # fmt: skip
    assert done.code == 0, done.err
    [(given, options)] = asked
    assert given == ("pocket", Path("runs/sparse"))
    recipe = options["recipe"]
    assert (recipe.size, recipe.ratio, recipe.first_layers, recipe.minutes) == (Size(208, 112, 33), 0.2, 0, 30)
    assert recipe.order == "wth"


def test_merging_finds_models(cli: Cli, asked: list[Any], tiny_model_dir: Path) -> None:
    words = ("--student", tiny_model_dir, "--sparse", tiny_model_dir, "--to", "new", "--weight", "0.7")
    assert cli("train", "merge", *words).code == 0
    [(given, options)] = asked
    assert given[:2] == (tiny_model_dir, tiny_model_dir)
    assert given[2].name == "pocket"
    assert (given[3], options) == (Path("new"), {"weight": 0.7})


def test_ctrl_c_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("homereel.training.distill.distill", interrupted)
    done = cli("train", "distill")
    assert done.code == 130
    assert "goes on from the last checkpoint" in done.complaint
