"""Inputs of a clip: footage at the speed and length that are wanted, masks, and pictures as phones write them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from homereel import media
from homereel.core.errors import MediaError, UnreadableMedia

Pixels = NDArray[np.uint8]


def write_footage(path: Path, times: Sequence[Fraction], *, rate: int = 30, side: int = 32) -> Path:
    """Frame i is as grey as 5 * i and is shown from times[i] on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), 5 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 600), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(frames: Pixels) -> list[int]:
    """Which frame of `write_footage` each one is; a level or two are lost in the code."""
    return [round(float(frame.mean()) / 5) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("source", "wanted"), [(30, 16), (30, 24), (24, 16), (16, 24), (25, 25), (12, 30), (30, 10)])
def test_footage_comes_at_the_wanted_speed(tmp_path: Path, source: int, wanted: int, suffix: str) -> None:
    """For the moment k/wanted the frame at or before it. Matroska rounds its times to milliseconds."""
    path = write_footage(tmp_path / f"a.{suffix}", [Fraction(i, source) for i in range(36)], rate=source)
    clip = media.read_clip(path, fps=wanted)
    count = -(-36 * wanted // source)
    assert shown(clip.frames) == [k * source // wanted for k in range(count)]
    assert clip.fps == wanted
    assert media.num_frames_at(36 / source, fps=wanted) == count


def test_frames_of_uneven_length_are_taken_by_their_times(tmp_path: Path) -> None:
    """Phones write a frame when they have one; counting frames would run ahead of the clock."""
    times = [Fraction(t) for t in ("0.5", "0.55", "0.6", "1.0", "1.5", "1.55")]
    clip = media.read_clip(write_footage(tmp_path / "a.mp4", times), fps=10)
    assert shown(clip.frames)[:11] == [0, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "frames/"])
def test_animations_and_folders_come_at_the_wanted_speed(tmp_path: Path, name: str) -> None:
    frames = np.repeat(np.arange(0, 200, 25, dtype=np.uint8)[:, None], 16 * 16 * 3, axis=1).reshape(8, 16, 16, 3)
    record = {"homereel": {"schema": 1, "resolved": {"fps": 10.0}}}
    media.write_clip(frames, f"{tmp_path}/{name}", fps=10, quality=100, record=record)
    clip = media.read_clip(f"{tmp_path}/{name}", fps=25, num_frames=20)
    assert [round(float(frame.mean()) / 25) for frame in clip.frames] == [k * 10 // 25 for k in range(20)]


def test_a_length_can_be_asked_for(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "a.mp4", [Fraction(i, 24) for i in range(24)], rate=24)
    assert shown(media.read_clip(path, num_frames=5).frames) == [0, 1, 2, 3, 4]
    assert len(media.read_clip(path, fps=16, num_frames=16).frames) == 16
    with pytest.raises(MediaError, match=r"gives 16 frames at 16 a second \(1\.00 s\), and 17 are wanted; .* most 16"):
        media.read_clip(path, fps=16, num_frames=17)
    with pytest.raises(MediaError, match="gives 24 frames at 24 a second"):
        media.read_clip(path, num_frames=25)


def test_what_lies_behind_the_wanted_length_is_not_decoded(tmp_path: Path) -> None:
    """The last frames are destroyed, and nobody notices; the decoder runs a few frames ahead."""
    path = write_footage(tmp_path / "a.mkv", [Fraction(i, 30) for i in range(40)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10] + bytes(len(content) // 10))
    assert shown(media.read_clip(path, num_frames=10).frames) == list(range(10))


def test_only_what_is_kept_needs_memory(tmp_path: Path) -> None:
    """Large footage for a small clip: 40 frames of 64 x 64 are not allowed here, 10 of 16 x 16 are."""
    path = write_footage(tmp_path / "a.mp4", [Fraction(i, 40) for i in range(40)], side=64)
    limits = media.Limits(max_decoded_bytes=10 * 16 * 16 * 3)
    clip = media.read_clip(path, fps=10, limits=limits, fit=lambda frame: frame[:16, :16])
    assert clip.frames.shape == (10, 16, 16, 3)
    assert shown(clip.frames) == list(range(0, 40, 4))
    with pytest.raises(UnreadableMedia, match="bytes of memory decoded"):
        media.read_clip(path, fps=10, limits=limits)


def test_a_fault_of_the_callers_fit_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "a.mp4", [Fraction(i, 10) for i in range(3)])
    fault = ValueError("mine")

    def fit(frame: Pixels) -> Pixels:
        raise fault

    with pytest.raises(ValueError, match="mine") as caught:
        media.read_clip(path, fit=fit)
    assert caught.value is fault


def test_two_frames_an_hour_apart_fill_no_memory(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "a.mp4", [Fraction(0), Fraction(3000)])
    with pytest.raises(UnreadableMedia, match="more than 20,000 frames"):
        media.read_clip(path, fps=240)
    assert shown(media.read_clip(path, fps=240, num_frames=3).frames) == [0, 0, 0]


def save(picture: Any, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def half(top: int, bottom: int, *, mode: str = "L") -> Image.Image:
    return Image.fromarray(np.repeat(np.array([top, bottom], np.uint8), 12).reshape(6, 4)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_a_mask_is_the_greys_of_a_picture(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        picture: Any = Image.fromarray(np.repeat(np.array([65535, 0], np.uint16), 12).reshape(6, 4))
    else:
        picture = half(255, 0, mode=mode)
    suffix = "jpg" if mode == "CMYK" else "png"
    mask = media.read_mask(save(picture, tmp_path / f"m.{suffix}"), num_frames=3)
    assert mask.shape == (3, 6, 4)
    assert mask.dtype == np.uint8
    assert mask.flags.writeable
    tolerance = 3 if mode == "CMYK" else 0  # JPEG
    assert (mask[:, :3] >= 255 - tolerance).all()
    assert (mask[:, 3:] <= tolerance).all()


def test_colours_count_as_bright_as_they_look(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    assert media.read_mask(save(picture, tmp_path / "m.png"), num_frames=1)[0, 0].tolist() == [76, 150, 29]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_that_says_something_is_the_mask(tmp_path: Path, mode: str) -> None:
    """What was erased is changed; the colours, here the other way round, do not count."""
    picture = half(255, 0, mode=mode)
    picture.putalpha(half(255, 0))
    mask = media.read_mask(save(picture, tmp_path / "m.png"), num_frames=2)
    assert mask[:, :, 0].tolist() == [[0] * 3 + [255] * 3] * 2


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_an_alpha_channel_that_is_the_same_all_over_says_nothing(tmp_path: Path, alpha: int) -> None:
    picture = half(255, 0, mode="RGB")
    picture.putalpha(alpha)
    mask = media.read_mask(save(picture, tmp_path / "m.png"), num_frames=1)
    assert mask[0, :, 0].tolist() == [255] * 3 + [0] * 3


def test_a_palette_with_a_transparent_colour_is_a_mask(tmp_path: Path) -> None:
    picture = Image.fromarray(np.repeat(np.array([0, 1], np.uint8), 12).reshape(6, 4), mode="P")
    picture.putpalette([10, 20, 30, 200, 0, 0])
    mask = media.read_mask(save(picture, tmp_path / "m.png", transparency=0), num_frames=1)
    assert mask[0, :, 0].tolist() == [255] * 3 + [0] * 3


def test_a_mask_is_turned_as_its_picture_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(half(255, 0), tmp_path / "m.png", exif=exif.tobytes())
    assert media.read_mask(path, num_frames=1)[0, 0].tolist() == [0] * 3 + [255] * 3


@pytest.mark.parametrize(("name", "tolerance"), [("m.mp4", 2), ("m.gif", 0), ("m.webp", 0), ("frames/", 0)])
def test_a_mask_can_move(tmp_path: Path, name: str, tolerance: int) -> None:
    """A white bar that goes down by eight rows a frame; H.264 loses a level or two."""
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[8 * index : 8 * index + 8] = 255
    media.write_clip(frames, f"{tmp_path}/{name}", fps=16, quality=100)
    mask = media.read_mask(f"{tmp_path}/{name}", num_frames=4)
    assert mask.shape == (4, 32, 32)
    assert np.abs(mask.astype(int) - frames[..., 0]).max() <= tolerance
    slow = media.read_mask(f"{tmp_path}/{name}", num_frames=8, fps=32)
    assert np.array_equal(slow, np.repeat(mask, 2, axis=0))
    with pytest.raises(MediaError, match=r"gives 4 frames at .* and 5 are wanted"):
        media.read_mask(f"{tmp_path}/{name}", num_frames=5)


def test_alpha_of_an_animation_is_judged_as_a_whole(tmp_path: Path) -> None:
    """The first picture is opaque all over: nothing changes there, and alpha still counts."""
    pictures = [Image.new("RGBA", (4, 4), (0, 0, 0, alpha)) for alpha in (255, 0, 255)]
    path = save(pictures[0], tmp_path / "m.webp", save_all=True, append_images=pictures[1:], lossless=True)
    assert media.read_mask(path, num_frames=3)[:, 0, 0].tolist() == [0, 255, 0]


def test_a_gif_with_one_picture_is_a_picture(tmp_path: Path) -> None:
    mask = media.read_mask(save(half(255, 0), tmp_path / "m.gif"), num_frames=7)
    assert mask[:, :, 0].tolist() == [[255] * 3 + [0] * 3] * 7


def test_masks_have_limits(tmp_path: Path) -> None:
    path = save(half(255, 0), tmp_path / "m.png")
    with pytest.raises(UnreadableMedia, match="4x6 pixels; at most 23"):
        media.read_mask(path, num_frames=1, limits=media.Limits(max_pixels=23))
    with pytest.raises(UnreadableMedia, match="bytes of memory"):
        media.read_mask(path, num_frames=10**6, limits=media.Limits(max_decoded_bytes=24 * 10**6 - 1))
    (tmp_path / "m.txt").write_text("no mask")
    with pytest.raises(UnreadableMedia, match="neither a picture nor a clip"):
        media.read_mask(tmp_path / "m.txt", num_frames=1)


@pytest.mark.parametrize("mode", ["P", "I;16", "RGBA", "L", "1"])
def test_pictures_of_every_mode_are_turned(tmp_path: Path, mode: str) -> None:
    """Orientation, palettes, transparency and 16 bits at once; the upper half is black or transparent."""
    if mode == "I;16":
        picture: Any = Image.fromarray(np.repeat(np.array([0, 65535], np.uint16), 12).reshape(6, 4))
    else:
        picture = half(0, 255, mode=mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"transparency": 0} if mode == "P" else {}
    pixels = media.read_image(save(picture, tmp_path / "a.png", exif=exif.tobytes(), **options))
    assert pixels.shape == (4, 6, 3)
    assert (pixels[:, :3] == 255).all()
    assert (pixels[:, 3:] == (255 if mode == "P" else 0)).all()
