"""Clips joined to one film: every frame at its place, every sound with its frames, and a record that tells of each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import InvalidRequest, UnreadableMedia
from homereel.core.sound import Sound
from homereel.media.read_sound import open_sound_stream
from homereel.workflows import film_record, film_sound
from homereel.workflows.film import join_clips
from homereel.workflows.film_record import film_parts
from homereel.workflows.run import read_made

FPS = 8
SIDE = 32


def grey(path: Path, *levels: int, fps: float = FPS, side: int = SIDE, **more: Any) -> Path:
    """A clip of plain frames, each as bright as told."""
    frames = np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])
    return media.write_clip(frames, path, fps=fps, quality=100, **more)


def levels(path: Path) -> list[int]:
    frames = media.read_clip(path).frames
    return [round(float(frame.mean())) for frame in frames]


def tone(seconds: float, *, rate: int = 48_000, num_channels: int = 2, hertz: float = 500) -> Sound:
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return Sound(np.repeat(wave[:, None], num_channels, axis=1).astype(np.float32), rate)


def loudness(path: Path, *, parts: int) -> list[float]:
    """How loud each of so many equal parts of the film is, without the edges where AAC blurs."""
    sound = media.read_sound(path)
    assert sound is not None
    size = sound.num_samples // parts
    return [_rms(sound.samples[at * size + size // 5 : (at + 1) * size - size // 5]) for at in range(parts)]


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def recorded(prompt: str, *, seed: int = 7) -> dict[str, Any]:
    inner = {
        "schema": 1,
        "request": {"prompt": prompt},
        "resolved": {"model": "pocket", "seed": seed, "steps": 9, "fps": FPS},
        "model": {"id": "pocket", "files": {"vae.safetensors": "a" * 64}},
        "frames_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "ai_generated": True,
    }
    return {"homereel": inner}


def test_every_frame_is_there_in_its_order(tmp_path: Path) -> None:
    first, second = grey(tmp_path / "a.mp4", 20, 60, 100), grey(tmp_path / "b.mp4", 140, 180, 220)
    film = join_clips([(first, 0), (second, 1), (first, 2)], tmp_path / "film.mp4")
    assert levels(film) == pytest.approx([20, 60, 100, 180, 220, 100], abs=3)
    assert media.probe(film).fps == FPS
    assert media.probe(film).sound is None


def test_sound_stays_with_its_clip_and_others_are_silent(tmp_path: Path) -> None:
    loud = grey(tmp_path / "loud.mp4", *[50] * 8, sound=tone(1))
    silent = grey(tmp_path / "silent.mp4", *[90] * 8)
    film = join_clips([(silent, 0), (loud, 0), (silent, 0), (loud, 0)], tmp_path / "film.mp4")
    heard = loudness(film, parts=4)
    assert heard[1] == pytest.approx(0.4 / 2**0.5, rel=0.05)
    assert heard[3] == pytest.approx(0.4 / 2**0.5, rel=0.05)
    assert max(heard[0], heard[2]) < 0.003
    look = media.probe(film)
    assert look.sound is not None
    assert look.sound.seconds == pytest.approx(4, abs=0.03)


def test_the_finest_rate_and_the_most_channels_are_taken(tmp_path: Path) -> None:
    """A mono tone at 24 kHz keeps its pitch beside a stereo one at 48 kHz."""
    mono = grey(tmp_path / "mono.mp4", *[50] * 8, sound=tone(1, rate=24_000, num_channels=1, hertz=500))
    stereo = grey(tmp_path / "stereo.mp4", *[90] * 8, sound=tone(1, hertz=1000))
    sound = media.read_sound(join_clips([(mono, 0), (stereo, 0)], tmp_path / "film.mp4"))
    assert sound is not None
    assert (sound.rate, sound.num_channels) == (48_000, 2)
    for at, hertz in ((0.2, 500), (1.2, 1000)):
        part = sound.samples[round(at * 48_000) :][:24_000, 0]
        assert np.abs(np.fft.rfft(part)).argmax() * 2 == hertz


def test_sound_that_is_shorter_or_longer_than_its_frames_moves_nothing(tmp_path: Path) -> None:
    """Frames at 8 a second are 6000 samples each; the second clip's sound must begin with its first frame."""
    short = grey(tmp_path / "short.mp4", *[50] * 8, sound=tone(0.5))
    loud = grey(tmp_path / "loud.mp4", *[90] * 8, sound=tone(1))
    film = join_clips([(short, 4), (loud, 0)], tmp_path / "film.mp4")  # the tone lies wholly in what is left out
    sound = media.read_sound(film)
    assert sound is not None
    assert sound.num_samples == pytest.approx(12 * 6000, abs=2)
    loud_from = int(np.argmax(np.abs(sound.samples[:, 0]) > 0.1))
    assert loud_from == pytest.approx(4 * 6000, abs=600)


def test_clips_of_two_looks_are_refused_with_what_to_do(tmp_path: Path) -> None:
    first = grey(tmp_path / "a.mp4", 20, 60)
    for name, other in (
        ("quick.mp4", grey(tmp_path / "quick.mp4", 20, 60, fps=16)),
        ("large.mp4", grey(tmp_path / "large.mp4", 20, 60, side=64)),
    ):
        with pytest.raises(InvalidRequest, match=rf"{name} is .* and a.mp4 is 32x32 at 8 fps.*again"):
            join_clips([(first, 0), (other, 0)], tmp_path / "film.mp4")
    with pytest.raises(InvalidRequest, match="has 2 frames, of which 2"):
        join_clips([(first, 2)], tmp_path / "film.mp4")
    with pytest.raises(InvalidRequest, match="needs a clip"):
        join_clips([], tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


def test_a_clip_that_gives_fewer_frames_than_it_claims_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    first = grey(tmp_path / "a.mp4", 20, 60)
    look = media.probe(first)
    monkeypatch.setattr(media, "probe", lambda path: replace(look, num_frames=3))
    with pytest.raises(UnreadableMedia, match="claims 3 frames and gives 2"):
        join_clips([(first, 0)], tmp_path / "film.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"], "nothing half made is left"


def test_the_film_tells_how_each_of_its_clips_was_made(tmp_path: Path) -> None:
    first = grey(tmp_path / "a.mp4", 20, 60, record=recorded("a red ball"))
    second = grey(tmp_path / "b.mp4", 90, 99, record=recorded("a blue box", seed=8))
    film = join_clips([(first, 0), (second, 1)], tmp_path / "film.mp4", title="Two")
    record = media.read_record(film)
    parts = film_parts(record)
    assert record is not None
    assert parts is not None
    assert [part["recipe"]["prompt"] for part in parts] == ["a red ball", "a blue box"]
    assert [part["sha256"] for part in parts] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in (first, second)]
    inner = record["homereel"]
    assert inner["parents"] == [recorded(words)["homereel"]["frames_sha256"] for words in ("a red ball", "a blue box")]
    assert inner["film"]["models"] == {"pocket": {"vae.safetensors": "a" * 64}}
    assert (inner["film"]["title"], inner["resolved"]["num_frames"], inner["ai_generated"]) == ("Two", 3, True)
    with pytest.raises(InvalidRequest, match="--prompt"):
        read_made(film)
    assert read_made(film, prompt="both", model="pocket").request.prompt == "both"


def test_long_recipes_give_way_to_fingerprints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_record, "_MAX_RECIPES_BYTES", 25_000)
    clip = grey(tmp_path / "a.mp4", 20, record=recorded("x" * 10_000))
    parts = film_parts(media.read_record(join_clips([(clip, 0)] * 4, tmp_path / "film.mp4")))
    assert parts is not None
    assert ["recipe" in part for part in parts] == [True, True, False, False]
    assert all("sha256" in part for part in parts)


def test_a_film_of_footage_alone_is_not_called_generated(tmp_path: Path) -> None:
    record = media.read_record(join_clips([(grey(tmp_path / "a.mp4", 20), 0)], tmp_path / "film.mp4"))
    assert record is not None
    assert record["homereel"]["ai_generated"] is False


def test_clips_are_opened_when_the_film_comes_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not read before it is needed is not held: the sound of a clip waits for the last frame before it."""
    loud = grey(tmp_path / "loud.mp4", *[50] * 8, sound=tone(1))
    done: list[float] = []
    opened: list[int] = []

    def spy(path: Path, *, limits: Any) -> Any:
        opened.append(len(done))
        return open_sound_stream(path, limits=limits)

    monkeypatch.setattr(film_sound, "open_sound_stream", spy)
    join_clips([(loud, 0)] * 4, tmp_path / "film.mp4", on_progress=done.append)
    assert opened == [0, 8, 16, 24]
    assert done[-1] == 1
