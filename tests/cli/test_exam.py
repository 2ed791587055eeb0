"""`homereel exam` with a tiny model that knows nothing: it runs, tells, and gives no credit."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from homereel.cli.exam_table import show_result
from homereel.training import exam
from tests.cli.conftest import Cli


@pytest.fixture(scope="module")
def long_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with clips that are long enough to show motion."""
    folder = tmp_path_factory.mktemp("long") / "tiny-wan"
    shutil.copytree(tiny_model_dir, folder)
    card = json.loads((folder / "homereel.json").read_text())
    card["defaults"] |= {"num_frames": 9, "width": 48, "height": 48}
    (folder / "homereel.json").write_text(json.dumps(card))
    return folder


def test_json(cli: Cli, long_model_dir: Path) -> None:
    done = cli("exam", "-m", long_model_dir, "--clips", "3", "--steps", "2", "--guidance", "1.5", "--json")
    assert (done.code, done.err) == (0, "")
    told = done.json
    assert {"score", "traits", "ceiling", "model"} <= set(told)
    assert (told["clips"], told["steps"], told["guidance"]) == (3, 2, 1.5)
    assert told["score"] == 0
    assert {"color", "shape", "motion", "floor"} <= set(told["traits"])


@pytest.mark.slow
def test_processes_make_the_same_clips(cli: Cli, long_model_dir: Path) -> None:
    asked = ("exam", "-m", long_model_dir, "--clips", "3", "--steps", "1", "--json")
    alone, helped = (cli(*asked, "--workers", count).json for count in ("1", "2"))
    for told in (alone, helped):
        assert told.pop("make_seconds") > 0
        assert told.pop("read_seconds") > 0
    assert alone == helped


def test_table_and_progress(cli: Cli, long_model_dir: Path) -> None:
    done = cli("exam", "-m", long_model_dir, "--clips", "2", "--steps", "1", "--size", "64x48")
    assert done.code == 0
    for words in ("color", "all asked", "ceiling", "Most often wrong", "score 0.000"):
        assert words in done.out
    assert "homereel: clips 0/2" in done.err


def test_through_the_autoencoder(cli: Cli, long_model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the tiny autoencoder leaves is noise: its score is nothing."""
    done = cli("exam", "-m", long_model_dir, "--clips", "1", "--through-vae", "--json")
    assert done.code == 0, done.err
    assert done.json["through"] == "vae"
    assert done.json["score"] == 0
    assert done.json["psnr"] < 20
    show_result(done.json)
    assert "near the object" in capsys.readouterr().out


def test_same_seed_same_questions(cli: Cli, long_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def keep(make_clip: object, *, seed: int, num_clips: int, **_: object) -> None:
        asked.extend(question.prompt for question in exam.make_questions(num_clips, seed=seed))
        raise KeyboardInterrupt

    monkeypatch.setattr(exam, "run_exam", keep)
    for seed in ("5", "5", "6"):
        cli("exam", "-m", long_model_dir, "--clips", "1", "--seed", seed)
    assert asked[0] == asked[1] != asked[2]


def test_ctrl_c(cli: Cli, long_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_readers(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("a process in the pool was ended")

    monkeypatch.setattr(exam, "run_exam", broken_readers)
    done = cli("exam", "-m", long_model_dir, "--json")
    assert done.code == 130
    assert done.complaint == "stopped; there is no score"


@pytest.mark.parametrize(
    ("option", "value"), [("--clips", "0"), ("--workers", "0"), ("--steps", "0"), ("--seed", "-1")]
)
def test_bad_numbers(cli: Cli, long_model_dir: Path, option: str, value: str) -> None:
    done = cli("exam", "-m", long_model_dir, option, value, "--json")
    assert done.code == 2
    assert done.complaint


def test_clips_too_short_for_motion(cli: Cli, tiny_model_dir: Path) -> None:
    done = cli("exam", "-m", tiny_model_dir, "--json")
    assert done.code == 2
    assert "8 or more" in done.complaint
