"""Sound of strangers: cut, damaged, out of step, over a limit, and in the formats that cameras write."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import UnreadableMedia
from homereel.core.sound import Sound

Samples = NDArray[Any]
RATE = 48_000


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """Two seconds of noise beside grey frames."""
    return write_loud(tmp_path / "loud.mp4", num_frames=32)


def write_loud(path: Path, *, num_frames: int) -> Path:
    frames = np.full((num_frames, 32, 32, 3), 90, np.uint8)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (num_frames * RATE // 16, 2)).astype(np.float32)
    return media.write_clip(frames, path, fps=16, sound=Sound(samples, RATE))


def write_foreign(
    path: Path,
    samples: Samples,
    *,
    layout: str = "mono",
    codec: str = "pcm_s16le",
    sound_at: float = 0.0,
    frames_at: float | None = 0.0,
    rate: int = RATE,
) -> Path:
    """A clip as another program would write it: 8 frames in half a second and PCM beside them, each from its own
    time on. `samples` are (n, channels).
    """
    with av.open(str(path), "w") as container:
        if frames_at is not None:
            video = container.add_stream("libx264", rate=16, options={"bf": "0"})
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout=layout)
        if frames_at is not None:
            for index in range(8):
                frame = av.VideoFrame(32, 32, "yuv420p")
                frame.pts, frame.time_base = index + round(frames_at * 16), Fraction(1, 16)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        number_format = {"int16": "s16", "float32": "flt"}[samples.dtype.name]
        block = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format=number_format, layout=layout)
        block.sample_rate, block.pts, block.time_base = rate, round(sound_at * rate), Fraction(1, rate)
        container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    return path


def ramp(num_samples: int = RATE // 2) -> Samples:
    return np.arange(1, num_samples + 1, dtype=np.int16)[:, None]


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_other_containers_come_back_to_the_bit(tmp_path: Path, suffix: str) -> None:
    back = media.read_sound(write_foreign(tmp_path / f"a.{suffix}", ramp()))
    assert back is not None
    assert back.rate == RATE
    assert np.array_equal(np.rint(back.samples * 32768).astype(np.int16), ramp())
    found = media.probe(tmp_path / f"a.{suffix}").sound
    assert found is not None
    assert (found.codec, found.rate, found.num_channels) == ("pcm_s16le", RATE, 1)


def test_a_late_sound_is_preceded_by_silence(tmp_path: Path) -> None:
    back = media.read_sound(write_foreign(tmp_path / "a.mkv", ramp(), sound_at=0.25))
    assert back is not None
    assert (back.samples[: RATE // 4] == 0).all()
    assert np.rint(back.samples[RATE // 4 :, 0] * 32768)[:3].tolist() == [1, 2, 3]


def test_sound_before_the_first_frame_is_left_out(tmp_path: Path) -> None:
    """Both count from the first frame that is shown, as the frames do."""
    path = write_foreign(tmp_path / "a.mkv", ramp(), frames_at=0.25)
    back = media.read_sound(path)
    assert back is not None
    assert np.rint(back.samples[:3, 0] * 32768).tolist() == [RATE // 4 + 1, RATE // 4 + 2, RATE // 4 + 3]
    assert len(media.read_clip(path, fps=16).frames) == 8


def test_sound_alone_is_read_and_is_no_clip(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.m4a", ramp().astype(np.float32) / 32768, codec="aac", frames_at=None)
    back = media.read_sound(path)
    assert back is not None
    assert back.num_samples == RATE // 2
    with pytest.raises(UnreadableMedia, match="no video track"):
        media.read_clip(path)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9, 0.99])
def test_a_cut_mp4_is_not_taken_for_a_short_one(loud: Path, share: float) -> None:
    content = loud.read_bytes()
    loud.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableMedia, match="breaks off in the middle"):
        media.read_sound(loud)
    with suppress(UnreadableMedia):
        media.read_clip(loud)


def test_a_cut_at_the_end_of_a_box_is_seen(loud: Path) -> None:
    """The index stands, all content is gone."""
    content = loud.read_bytes()
    loud.write_bytes(content[: content.index(b"mdat") - 4])
    with pytest.raises(UnreadableMedia):
        media.read_sound(loud)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_cut_mkv_is_not_taken_for_a_short_one(tmp_path: Path, share: float) -> None:
    path = write_foreign(tmp_path / "a.mkv", ramp())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableMedia, match="breaks off in the middle"):
        media.read_sound(path)


def test_an_mkv_of_unknown_length_is_read(tmp_path: Path) -> None:
    """As browsers record it: the length of the segment is all ones."""
    path = write_foreign(tmp_path / "a.mkv", ramp())
    content = bytearray(path.read_bytes())
    at = content.index(b"\x18S\x80g") + 4
    assert content[at] == 1  # a number of eight bytes
    content[at + 1 : at + 8] = b"\xff" * 7
    path.write_bytes(content)
    back = media.read_sound(path)
    assert back is not None
    assert back.num_samples == RATE // 2


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (media.Limits(max_seconds=1.5), "2 seconds"),
        (media.Limits(max_decoded_bytes=2 * RATE * 2 * 4 - 1), "bytes of memory decoded"),
        (media.Limits(max_file_bytes=1000), "at most 1,000 are read"),
    ],
)
def test_every_limit_holds(loud: Path, limits: media.Limits, message: str) -> None:
    with pytest.raises(UnreadableMedia, match=message):
        media.read_sound(loud, limits=limits)


def test_limits_hold_against_a_header_that_lies(loud: Path) -> None:
    """The container claims a hundredth of a second and holds two."""
    content = bytearray(loud.read_bytes())
    for name, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        at = -1
        while (at := content.find(name, at + 1)) >= 0:
            content[at + 4 + offset : at + 8 + offset] = struct.pack(">I", 400)
    loud.write_bytes(content.replace(b"elst", b"free"))
    for limits in (media.Limits(max_seconds=1.5), media.Limits(max_decoded_bytes=2 * RATE * 4)):
        with pytest.raises(UnreadableMedia, match=r"seconds|bytes of memory decoded"):
            media.read_sound(loud, limits=limits)


def test_a_claim_of_a_billion_samples_is_refused(loud: Path) -> None:
    content = bytearray(loud.read_bytes())
    at = content.rindex(b"stsz") + 12
    content[at : at + 4] = struct.pack(">I", 10**9)
    loud.write_bytes(content)
    for reader in (media.read_sound, media.read_clip, media.probe):
        with pytest.raises(UnreadableMedia, match=r"claims 1,000,000,\d+ samples in a file of"):
            reader(loud)


def test_sixteen_channels_are_refused(tmp_path: Path) -> None:
    samples = np.repeat(ramp(1000), 16, axis=1)
    path = write_foreign(tmp_path / "a.mkv", samples, layout="hexadecagonal")
    with pytest.raises(UnreadableMedia, match="16 channels with 48,000 samples a second; 1 to 8 channels"):
        media.read_sound(path)
    assert media.probe(path).num_frames == 8


def test_slow_sound_is_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mkv", ramp(1000), rate=4000)
    with pytest.raises(UnreadableMedia, match="8,000 to 192,000"):
        media.read_sound(path)


def test_what_the_header_does_not_tell_is_checked_on_what_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_foreign(tmp_path / "a.mkv", np.repeat(ramp(1000), 16, axis=1), layout="hexadecagonal")
    silent = media.SoundTrack("pcm_s16le", rate=None, num_channels=None, seconds=None)
    monkeypatch.setattr("homereel.media.decode_sound.sound_track", lambda container: silent)
    with pytest.raises(UnreadableMedia, match="16 channels"):
        media.read_sound(path)


def test_sound_that_is_no_number_is_refused(tmp_path: Path) -> None:
    samples = np.zeros((1000, 1), np.float32)
    samples[500] = np.nan
    path = write_foreign(tmp_path / "a.mkv", samples, codec="pcm_f32le")
    with pytest.raises(UnreadableMedia, match="no number"):
        media.read_sound(path)


def test_what_is_too_loud_is_limited(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mkv", np.array([[0.5], [2.0], [-3.0]], np.float32), codec="pcm_f32le")
    back = media.read_sound(path)
    assert back is not None
    assert back.samples[:, 0].tolist() == [0.5, 1.0, -1.0]


def test_other_codecs_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mkv", ramp(), codec="mp2")
    with pytest.raises(UnreadableMedia, match="sound coded as 'mp2'; AAC"):
        media.read_sound(path)
    assert len(media.read_clip(path).frames) == 8


def test_the_suffix_has_no_say(loud: Path, tmp_path: Path) -> None:
    assert media.read_sound(loud.rename(tmp_path / "a.gif")) is not None
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n")
    with pytest.raises(UnreadableMedia, match="is a playlist"):
        media.read_sound(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    with pytest.raises(UnreadableMedia, match="neither a picture nor a clip"):
        media.read_sound(tmp_path / "b.mp4")
    with pytest.raises(UnreadableMedia, match="there is no file"):
        media.read_sound(tmp_path / "c.mp4")


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    """A hundred spoilt copies: each is read or refused with UnreadableMedia, and nothing else happens. They last half
    a second: the shorter a file, the more of the damage meets what the reader has to understand.
    """
    loud, chance = write_loud(tmp_path / "loud.mp4", num_frames=8), np.random.default_rng(7)
    good = loud.read_bytes()
    readers: tuple[Callable[[Path], object], ...] = (media.read_sound, media.probe, media.read_clip)
    for _ in range(100):
        content = bytearray(good)
        for at in chance.integers(0, len(content), 8):
            content[at] = chance.integers(0, 256)
        loud.write_bytes(content)
        for reader in readers:
            with suppress(UnreadableMedia):
                reader(loud)
