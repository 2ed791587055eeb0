"""Sound: in step with the frames, as long as they are, the same bytes twice; read back with PyAV alone and by
our own reader.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import UnwritableTarget
from homereel.core.sound import Sound

Clip = NDArray[np.uint8]
Samples = NDArray[np.float32]

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
FLASH = 13  # the frame that is white, and sounds


def tone(seconds: float, *, rate: int = 48_000, num_channels: int = 2, loudness: float = 0.4) -> Sound:
    """Another pitch on each channel, from 100 Hz on in steps of 50."""
    time = np.arange(round(seconds * rate)) / rate
    pitches = 100 + 50 * np.arange(num_channels)
    return Sound((loudness * np.sin(2 * np.pi * time[:, None] * pitches)).astype(np.float32), rate)


def flashing(num_frames: int) -> Clip:
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    frames[FLASH] = 255
    return frames


def click(num_frames: int, *, fps: Fraction, rate: int, num_channels: int) -> Sound:
    """Silence but for one sample at the start of the flash."""
    samples = np.zeros((round(num_frames * rate / fps), num_channels), np.float32)
    samples[round(FLASH * rate / fps)] = 0.9
    return Sound(samples, rate)


def heard(path: Path) -> tuple[Samples, float]:
    """The samples (n, channels) and the time of the first, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    packer = av.AudioResampler(format="flt")
    packed = [part for frame in frames for part in packer.resample(frame)]
    samples = np.concatenate([part.to_ndarray().reshape(-1, part.layout.nb_channels) for part in packed])
    return samples, float(frames[0].time)


def flash_time(path: Path) -> float:
    with av.open(str(path)) as container:
        frames = [(frame.to_ndarray(format="gray").mean(), frame.time) for frame in container.decode(video=0)]
    return float(max(frames)[1])


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize("fps", [16, 24, 25, Fraction(24_000, 1001)])
def test_a_click_and_a_flash_come_back_together(
    tmp_path: Path, fps: int | Fraction, rate: int, num_channels: int
) -> None:
    """Within one sample: the click was put on the sample nearest to the flash, and AAC moves it by none."""
    fps = Fraction(fps)
    sound = click(33, fps=fps, rate=rate, num_channels=num_channels)
    path = media.write_clip(flashing(33), tmp_path / "a.mp4", fps=float(fps), sound=sound)
    samples, start = heard(path)
    assert start == 0
    loudest = np.abs(samples).argmax(axis=0)
    assert (loudest == round(FLASH * rate / fps)).all()
    assert abs(loudest[0] / rate - flash_time(path)) <= 1 / rate
    back = media.read_sound(path)
    assert back is not None
    assert (back.rate, back.samples.shape) == (rate, sound.samples.shape)
    assert (np.abs(back.samples).argmax(axis=0) == loudest).all()


def test_players_are_told_to_skip_the_run_up_of_the_encoder(tmp_path: Path) -> None:
    """The edit list of the sound starts 1024 samples into the stream; without it the click comes so much later."""
    sound = click(33, fps=Fraction(16), rate=48_000, num_channels=1)
    path = media.write_clip(flashing(33), tmp_path / "a.mp4", fps=16, sound=sound)
    content = path.read_bytes()
    edits = content.rindex(b"elst")  # the sound's track is the second one
    assert int.from_bytes(content[edits + 16 : edits + 20], "big") == 1024
    path.write_bytes(content[:edits] + b"free" + content[edits + 4 :])
    assert abs(np.abs(heard(path)[0]).argmax() - (FLASH * 3000 + 1024)) <= 1


@pytest.mark.parametrize(("rate", "aac_rate"), [(37_800, 44_100), (11_000, 11_025), (192_000, 96_000), (8_000, 8_000)])
def test_rates_that_aac_does_not_have_are_resampled(tmp_path: Path, rate: int, aac_rate: int) -> None:
    sound = click(33, fps=Fraction(16), rate=rate, num_channels=1)
    path = media.write_clip(flashing(33), tmp_path / "a.mp4", fps=16, sound=sound)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.sample_rate == aac_rate
    samples, _ = heard(path)
    # One sample of either rate: the click falls between two of the new ones.
    assert abs(np.abs(samples).argmax() / aac_rate - FLASH / 16) <= 1 / min(rate, aac_rate)


@pytest.mark.parametrize("seconds", [0.001, 0.3, 1.0, 3.0])
def test_the_sound_is_as_long_as_the_frames(tmp_path: Path, clip: Clip, seconds: float) -> None:
    """9 frames at 16 a second are 27,000 samples, to the sample, in the container and for our reader."""
    path = media.write_clip(clip, tmp_path / "a.mp4", fps=16, sound=tone(seconds))
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.duration * stream.time_base == Fraction(9, 16)
        assert container.streams.video[0].duration * container.streams.video[0].time_base == Fraction(9, 16)
    back = media.read_sound(path)
    assert back is not None
    assert back.num_samples == 27_000
    spoken = min(round(seconds * 48_000), 27_000)
    assert np.abs(back.samples[spoken + 2048 :]).max(initial=0) < 0.001  # two blocks later nothing rings any more
    assert spoken < 2048 or back.samples[:spoken].std() > 0.2


def test_a_tone_is_clear_from_the_start(tmp_path: Path) -> None:
    """Six tones at once: 20 dB above the error in every tenth of a second (30 are usual here). With its default search
    the encoder has 9 in the first one and in the last.
    """
    rate = 44_100
    time = np.arange(rate) / rate
    chord = sum(0.1 * np.sin(2 * np.pi * pitch * time + pitch) for pitch in (220, 277, 330, 880, 2000, 4000))
    sound = Sound(np.asarray(chord, np.float32)[:, None], rate)
    back = media.read_sound(media.write_clip(flashing(16), tmp_path / "a.mp4", fps=16, sound=sound))
    assert back is not None
    for said, got in zip(np.split(sound.samples, 10), np.split(back.samples, 10), strict=True):
        assert 10 * np.log10((said**2).mean() / ((got - said) ** 2).mean()) > 20


@pytest.mark.parametrize("num_channels", range(1, 9))
def test_channels_keep_their_order(tmp_path: Path, num_channels: int) -> None:
    path = media.write_clip(flashing(16), tmp_path / "a.mp4", fps=16, sound=tone(1, num_channels=num_channels))
    samples, _ = heard(path)
    spectrum = np.abs(np.fft.rfft(samples[:48_000], axis=0))
    assert spectrum.argmax(axis=0).tolist() == [100 + 50 * channel for channel in range(num_channels)]
    back = media.read_sound(path)
    assert back is not None
    assert np.array_equal(back.samples, np.clip(samples[:48_000], -1, 1))
    found = media.probe(path).sound
    # Seven channels are told of inside the stream only, and looking at a file decodes nothing.
    assert found == media.SoundTrack("aac", 48_000, None if num_channels == 7 else num_channels, 1.0)


def test_what_is_too_loud_is_limited(tmp_path: Path, clip: Clip) -> None:
    loud = tone(0.5, loudness=3.0)
    limited = Sound(np.clip(loud.samples, -1, 1), loud.rate)
    paths = [
        media.write_clip(clip, tmp_path / f"{index}.mp4", fps=16, sound=sound)
        for index, sound in enumerate((loud, limited))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    back = media.read_sound(paths[0])
    assert back is not None
    assert np.abs(back.samples).max() <= 1


def test_same_sound_gives_same_bytes(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    contents = []
    for name in ("a.mp4", "b.mp4"):
        path = media.write_clip(clip, tmp_path / name, fps=16, record=record, sound=tone(1, rate=37_800))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert b"Lav" not in contents[0]
    assert contents[0].index(b"moov") < contents[0].index(b"mdat")
    assert media.read_record(tmp_path / "a.mp4") == record


def test_frames_do_not_change_with_sound(tmp_path: Path, clip: Clip) -> None:
    silent = media.write_clip(clip, tmp_path / "a.mp4", fps=16)
    loud = media.write_clip(clip, tmp_path / "b.mp4", fps=16, sound=tone(1))
    assert np.array_equal(media.read_clip(silent).frames, media.read_clip(loud).frames)
    assert media.probe(silent).sound is None
    assert media.read_sound(silent) is None
    found = media.probe(loud)
    assert (found.num_frames, found.fps, found.seconds) == (9, 16, 9 / 16)


def test_private_keeps_the_sound(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    record["homereel"]["sound_sha256"] = "e" * 64
    path = media.write_clip(clip, tmp_path / "a.mp4", fps=16, record=record, private=True, sound=tone(1))
    back, kept = media.read_sound(path), media.read_record(path)
    assert back is not None
    assert back.samples.std() > 0.2
    assert kept is not None
    assert kept["homereel"]["sound_sha256"] == "e" * 64


@pytest.mark.parametrize("fps", [1, 16, 60])
def test_sound_and_frames_lie_side_by_side(tmp_path: Path, fps: int) -> None:
    """A player that reads from the start never finds one more than two seconds ahead of the other, though the video
    encoder holds some sixty frames back.
    """
    frames = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), dtype=np.uint8)
    path = media.write_clip(iter(frames), tmp_path / "a.mp4", fps=fps, sound=tone(100 / fps, num_channels=1))
    with av.open(str(path)) as container:
        packets = [
            (packet.pos, packet.stream.type, float(packet.dts * packet.time_base))
            for packet in container.demux()
            if packet.size
        ]
    seen = {"audio": 0.0, "video": 0.0}
    for _, kind, time in sorted(packets):
        seen[kind] = time
        assert abs(seen["audio"] - seen["video"]) < 2 + 2 / fps


def test_frames_from_a_generator_get_their_sound(tmp_path: Path, clip: Clip) -> None:
    """The number of frames is known at the end only; the file equals the one that was written from an array."""
    whole = media.write_clip(clip, tmp_path / "a.mp4", fps=16, sound=tone(2))
    streamed = media.write_clip((frame for frame in clip), tmp_path / "b.mp4", fps=16, sound=tone(2))
    assert whole.read_bytes() == streamed.read_bytes()


def test_quality_trades_size_for_likeness(tmp_path: Path) -> None:
    noise = Sound(np.random.default_rng(0).uniform(-0.5, 0.5, (96_000, 2)).astype(np.float32), 48_000)
    sizes = []
    for quality in (0, 80, 100):
        path = media.write_clip(flashing(32), tmp_path / f"{quality}.mp4", fps=16, quality=quality, sound=noise)
        with av.open(str(path)) as container:
            sizes.append(container.streams.audio[0].bit_rate)
    # A constant bit rate in the long run; two seconds are not long.
    assert sizes == pytest.approx([64_000, 192_000, 224_000], rel=0.15)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "x_%02d.png", "new/"])
def test_other_formats_are_written_without(tmp_path: Path, clip: Clip, name: str) -> None:
    assert not media.carries_sound(f"{tmp_path}/{name}")
    path = media.write_clip(clip, f"{tmp_path}/{name}", fps=16, sound=tone(1))
    assert media.read_sound(f"{tmp_path}/{name}") is None
    assert media.probe(f"{tmp_path}/{name}").sound is None
    assert path.exists()


def test_only_mp4_carries_sound() -> None:
    assert media.carries_sound("A.MP4")
    with pytest.raises(UnwritableTarget, match="says no format"):
        media.carries_sound("a.avi")


class OddError(OSError):
    """What a generator raises must come through unchanged."""


@pytest.mark.parametrize("error", [OddError(errno.ENOSPC, "mine"), KeyboardInterrupt(), ValueError("mine")])
def test_a_failing_generator_leaves_nothing(tmp_path: Path, clip: Clip, error: BaseException) -> None:
    def frames() -> Iterator[Clip]:
        yield from clip[:4]
        raise error

    with pytest.raises(type(error)) as caught:
        media.write_clip(frames(), tmp_path / "a.mp4", fps=16, sound=tone(1))
    assert caught.value is error
    assert files_in(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableTarget, match=r"disk is full.*about [\d,]+ bytes are needed"):
        media.write_clip(clip, tmp_path / "a.mp4", fps=16, sound=tone(1))
    assert files_in(tmp_path) == []


def test_room_for_the_sound_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred seconds of stereo are 2.4 MB, more than these frames and what is always kept free for them."""

    class Usage:
        free = 2_000_000

    frames = np.zeros((100, 16, 16, 3), np.uint8)
    monkeypatch.setattr("homereel.media.target._MIN_FREE_BYTES", 0)
    monkeypatch.setattr("homereel.media.write.check_target", lambda target: None)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    media.write_clip(frames, tmp_path / "a.mp4", fps=1)
    with pytest.raises(UnwritableTarget, match="2,000,000 bytes free, and about 3,4"):
        media.write_clip(frames, tmp_path / "b.mp4", fps=1, sound=tone(1))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the file size")
def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path: Path) -> None:
    """A real refusal deep inside the container: the process may write files of 2 kB at most."""
    code = """
import resource, sys
import numpy as np
from homereel import media
from homereel.core.errors import UnwritableTarget
from homereel.core.sound import Sound
noise = np.random.default_rng(0)
frames = noise.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
sound = Sound(noise.uniform(-1, 1, (200_000, 2)).astype(np.float32), 48_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    media.write_clip(frames, sys.argv[1], fps=16, sound=sound)
except UnwritableTarget as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.mp4"], capture_output=True, text=True, check=True)
    assert "larger than this disk or shell allows" in done.stdout
    assert files_in(tmp_path) == []
