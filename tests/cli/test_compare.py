"""`homereel compare` and `homereel fidelity`, as a person and as a program meet them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.cli.fidelity_prompts import PROMPTS, choose_subjects
from homereel.core.sound import Sound
from homereel.training.exam import make_questions
from tests.cli.conftest import Cli, Outcome

Frames = NDArray[np.uint8]


@pytest.fixture
def frames() -> Frames:
    """Six frames of 32x24 with a square that moves over grain."""
    made = np.random.default_rng(5).integers(90, 120, (1, 24, 32, 3), np.uint8).repeat(6, axis=0)
    for index, frame in enumerate(made):
        frame[8:16, 2 + 3 * index : 10 + 3 * index] = (220, 40, 30)
    return made


def write(frames: Frames, name: str, *, fps: float = 8, sound: Sound | None = None) -> Path:
    return media.write_clip(frames, name, fps=fps, sound=sound)


def tone(pitch: float = 440) -> Sound:
    samples = np.sin(np.arange(36_000) * 2 * np.pi * pitch / 48_000).astype(np.float32)
    return Sound(samples[:, None], 48_000)


def test_a_file_with_itself(cli: Cli, frames: Frames) -> None:
    clip = write(frames, "a.mp4")
    told = cli("compare", clip, clip, "--json").json
    assert (told["identical"], told["sound"], told["differences"]) == (True, "absent", [])
    assert told["psnr"] == {"whole": None, "median": None, "p5": None, "worst": None}
    assert told["ssim"] == {"median": 1, "p5": 1, "worst": 1}
    shown = cli("compare", clip, clip)
    assert shown.code == 0
    assert "identical" in shown.out
    assert "equal" in shown.out


def test_figures_of_every_frame(cli: Cli, frames: Frames) -> None:
    """Frames as PNG lose nothing: the figures are those of what was written."""
    other = frames.copy()
    other[2, :8] ^= 16
    write(frames, "a/")
    write(other, "b/")
    told = cli("compare", "a", "b", "--json").json
    assert not told["identical"]
    assert told["worst_frame"] == 2
    expected = media.psnr(frames[2], other[2])
    assert [row["psnr"] for row in told["frames"]] == [None, None, pytest.approx(expected), None, None, None]
    assert told["psnr"]["worst"] == told["psnr"]["p5"] == pytest.approx(expected)
    assert told["psnr"]["whole"] == pytest.approx(media.psnr(frames, other))
    assert [row["ssim"] == 1 for row in told["frames"]] == [True, True, False, True, True, True]
    shown = cli("compare", "a", "b", "--frames")
    assert "5 of 6 frames are the same" in shown.out
    assert f"{expected:.2f}" in shown.out
    assert "worst (2)" in shown.out
    assert len(shown.out.splitlines()) > len(cli("compare", "a", "b").out.splitlines()) + 6


def test_other_length(cli: Cli, frames: Frames) -> None:
    write(frames, "a/")
    write(frames[:4], "b/")
    told = cli("compare", "a", "b", "--json").json
    assert (told["identical"], told["exact"], told["compared_frames"]) == (False, True, 4)
    assert [difference.split(":")[0] for difference in told["differences"]] == ["length"]
    shown = cli("compare", "a", "b")
    assert shown.code == 0
    for words in ("6 and 4 frames; the first 4 of each", "frames that both have"):
        assert words in shown.out


def test_other_pace(cli: Cli, frames: Frames) -> None:
    write(frames, "a.mp4", fps=8)
    write(frames, "b.mp4", fps=12)
    told = cli("compare", "a.mp4", "b.mp4", "--json").json
    assert not told["identical"]
    assert [difference.split(":")[0] for difference in told["differences"]] == ["pace"]
    assert "8 and 12 frames a second" in cli("compare", "a.mp4", "b.mp4").out


def test_other_size(cli: Cli, frames: Frames) -> None:
    write(frames, "a.mp4")
    write(frames[:, :16], "b.gif")
    done = cli("compare", "a.mp4", "b.gif", "--json")
    assert done.code == 1
    assert (done.json["psnr"], done.json["ssim"], done.json["compared_frames"]) == (None, None, 0)
    shown = cli("compare", "a.mp4", "b.gif")
    assert shown.code == 1
    assert "size: 32x24 and 32x16" in shown.out


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (tone(), tone(), "same"),
        (tone(), tone(660), "different"),
        (tone(), None, "only in the first"),
        (None, tone(), "only in the second"),
    ],
    ids=["same", "different", "first", "second"],
)
def test_sound(cli: Cli, frames: Frames, first: Sound | None, second: Sound | None, verdict: str) -> None:
    write(frames, "a.mp4", sound=first)
    write(frames, "b.mp4", sound=second)
    told = cli("compare", "a.mp4", "b.mp4", "--json").json
    assert told["sound"] == verdict
    assert told["exact"]
    assert told["identical"] == (verdict == "same")


def test_no_clip(cli: Cli, frames: Frames) -> None:
    write(frames, "a.mp4")
    Path("b.mp4").write_text("not a film")
    done = cli("compare", "a.mp4", "b.mp4", "--json")
    assert done.code == 2
    assert "b.mp4" in done.complaint
    assert cli("compare", "a.mp4", "c.mp4").code == 2


def fidelity(cli: Cli, model: Path, *words: str) -> Outcome:
    return cli("fidelity", "-m", model, "--steps", "2", *words)


def test_fidelity_of_a_pass(cli: Cli, tiny_model_dir: Path) -> None:
    """int8 moves the tiny model's clips a little; two plain runs on a CPU are the same to the bit."""
    done = fidelity(cli, tiny_model_dir, "--passes", "int8", "--prompts", "2", "--seed", "5", "--json")
    assert (done.code, done.err) == (0, "")
    told = done.json
    assert (told["changed"]["passes"], told["base"]["passes"]) == (["int8"], [])
    assert told["floor"]["exact"]
    assert not told["exact"]
    assert [clip["seed"] for clip in told["clips"]] == [5, 6]
    assert 15 < told["psnr"]["p5"] <= told["psnr"]["median"]
    assert 0.98 < told["latent_cosine"]["p5"] < 1
    assert 0 < told["ssim"]["p5"] < 1


def test_fidelity_shown(cli: Cli, tiny_model_dir: Path) -> None:
    done = fidelity(cli, tiny_model_dir, "--passes", "int8", "--prompt", "a red ball falls", "--floor", "1")
    assert done.code == 0, done.err
    for words in ("int8 (approximate) against none", "frames PSNR dB", "latents cosine", "equal", "times as fast"):
        assert words in done.out
    assert "warning: int8 is not faster without a GPU" in done.err


def test_fidelity_without_a_floor(cli: Cli, tiny_model_dir: Path) -> None:
    told = fidelity(cli, tiny_model_dir, "--passes", "fused_norms", "--prompts", "1", "--floor", "0", "--json").json
    assert told["floor"] is None
    assert told["clips"][0]["prompt"] == make_questions(1)[0].prompt  # the tiny model knows few words


def test_fidelity_asks_what_a_model_knows() -> None:
    for words, known in (((), PROMPTS), (("ball", "red"), tuple(question.prompt for question in make_questions(3)))):
        subjects = choose_subjects(prompts=(), num=3, seed=7, vocabulary=words)
        assert [(each.prompt, each.seed) for each in subjects] == list(zip(known[:3], (7, 8, 9), strict=True))
    again = choose_subjects(prompts=("a", "b"), num=3, seed=0, vocabulary=())
    assert [each.prompt for each in again] == ["a", "b", "a"]
    assert len(choose_subjects(prompts=("a", "b"), num=None, seed=0, vocabulary=())) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "give --passes"),
        (("--passes", "int8", "--turbo", "max"), "give --passes"),
        (("--passes", "int9"), "did you mean int8?"),
        (("--turbo", "warp"), "warp"),
        (("--passes", "int8", "--seed", "4294967295", "--prompts", "2"), "highest is 4294967295"),
    ],
)
def test_fidelity_refuses(cli: Cli, tiny_model_dir: Path, words: tuple[str, ...], complaint: str) -> None:
    done = fidelity(cli, tiny_model_dir, *words, "--json")
    assert done.code == 2
    assert complaint in done.complaint
