"""Reading: pictures of every mode come out as a first frame should look, clips turned and timed as meant."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from homereel import media
from homereel.core.errors import MediaError, UnreadableMedia

Clip = NDArray[np.uint8]
Patch = Callable[[bytearray], None]


def save(picture: Any, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "gif"])
def test_lossless_pictures_come_back(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((5, 7, 3), dtype=np.uint8)
    pixels[1:3, 2:6] = (255, 128, 0)
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(Image.fromarray(pixels), tmp_path / f"a.{suffix}", **options)
    assert np.array_equal(media.read_image(path), pixels)


def test_the_suffix_has_no_say(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "a.jpg", "PNG")
    assert media.read_image(tmp_path / "a.jpg")[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))]
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    """The bright upper left quarter goes where the camera meant it."""
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(pixels), tmp_path / "a.jpg", exif=exif.tobytes(), quality=95)
    picture = media.read_image(path)
    assert picture.shape == ((32, 16, 3) if orientation >= 5 else (16, 32, 3))
    assert picture[corner].min() > 240
    assert picture.mean() == pytest.approx(255 / 4, abs=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_over_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        picture = Image.new("P", (4, 4), 0)
        picture.putpalette([10, 20, 30, 200, 0, 0])
        path = save(picture, tmp_path / "a.png", transparency=0)
    else:
        picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert("LA" if mode == "LA" else "RGBA")
        path = save(picture, tmp_path / "a.png")
    assert (media.read_image(path) == 255).all()


def test_half_transparent_is_mixed(tmp_path: Path) -> None:
    path = save(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), tmp_path / "a.png")
    assert media.read_image(path)[0, 0].tolist() == [255, 127, 127]


def test_16_bits_are_scaled_and_not_cut(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    path = save(Image.fromarray(grey), tmp_path / "a.png")
    assert media.read_image(path)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_and_grey_become_rgb(tmp_path: Path) -> None:
    cmyk = media.read_image(save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "c.jpg", quality=95))
    assert np.abs(cmyk[0, 0].astype(int) - [255, 0, 0]).max() <= 3
    assert media.read_image(save(Image.new("L", (2, 2), 77), tmp_path / "l.png"))[0, 0].tolist() == [77] * 3
    assert media.read_image(save(Image.new("1", (2, 2), 1), tmp_path / "b.png"))[0, 0].tolist() == [255] * 3


def test_the_pixel_limit_of_a_picture_can_be_set(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (10, 10)), tmp_path / "a.png")
    assert media.read_image(path, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(UnreadableMedia, match="10x10 pixels; at most 99"):
        media.read_image(path, max_pixels=99)


def test_an_animation_gives_its_first_picture(tmp_path: Path, clip: Clip) -> None:
    path = media.write_clip(clip, tmp_path / "a.webp", fps=16, quality=100)
    assert np.array_equal(media.read_image(path), clip[0])


def test_a_video_is_no_picture_and_a_picture_no_video(mp4: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="is a video, not a picture"):
        media.read_image(mp4)
    with pytest.raises(UnreadableMedia, match="single picture"):
        media.read_clip(save(Image.new("RGB", (4, 4)), tmp_path / "a.png"))


def test_a_turned_video_comes_out_upright(patched: Callable[[Patch], Path], clip: Clip) -> None:
    """The matrix that phones write for a quarter turn clockwise."""

    def turn(content: bytearray) -> None:
        at = content.index(b"tkhd") + 44
        content[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)

    back = media.read_clip(patched(turn)).frames
    assert media.psnr(back, np.rot90(clip, -1, axes=(1, 2))) > 30


def test_matroska_is_read_too(tmp_path: Path, mp4: Path, clip: Clip) -> None:
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(mp4)) as source, av.open(str(path), "w", format="matroska") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    back = media.read_clip(path)
    assert media.psnr(back.frames, media.read_clip(mp4).frames) == float("inf")
    assert back.fps == pytest.approx(16, rel=0.01)  # Matroska counts milliseconds
    assert media.probe(path).kind == "matroska"
    assert media.probe(path).num_frames == len(clip)


def test_other_codecs_are_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("rawvideo", rate=5)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for _ in range(3):
            sink.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
    with pytest.raises(UnreadableMedia, match="coded as 'rawvideo'"):
        media.read_clip(path)


def test_probe_tells_what_a_file_is(mp4: Path, tmp_path: Path, clip: Clip) -> None:
    found = media.probe(mp4)
    assert (found.kind, found.codec, found.width, found.height) == ("mp4", "h264", 64, 48)
    assert (found.num_frames, found.fps, found.seconds) == (9, 16, 9 / 16)
    assert found.size_bytes == mp4.stat().st_size
    assert found.record is None
    gif = media.probe(media.write_clip(clip, tmp_path / "a.gif", fps=16))
    assert (gif.kind, gif.num_frames, gif.fps, gif.seconds) == ("gif", 9, 16, 9 / 16)
    media.write_clip(clip, f"{tmp_path}/frames/", fps=16)
    frames = media.probe(tmp_path / "frames")
    assert (frames.kind, frames.num_frames, frames.fps) == ("frames", 9, 16)
    still = media.probe(save(Image.new("RGB", (6, 5)), tmp_path / "s.jpg"))
    assert (still.kind, still.width, still.height, still.num_frames, still.fps) == ("jpeg", 6, 5, 1, None)


def test_frames_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"n_{number}.png")
    (tmp_path / "n_x.png").write_text("not a frame")
    back = media.read_clip(tmp_path / "n_%d.png")
    assert back.frames[:, 0, 0, 0].tolist() == [9, 10, 100]
    with pytest.raises(UnreadableMedia, match="more than 2 frames"):
        media.read_clip(tmp_path / "n_%d.png", limits=media.Limits(max_frames=2))
    Image.new("RGB", (3, 2)).save(tmp_path / "n_11.png")
    with pytest.raises(UnreadableMedia, match="changes its frame size"):
        media.read_clip(tmp_path / "n_%d.png")


def test_psnr() -> None:
    a = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    b = a.copy()
    assert media.psnr(a, b) == float("inf")
    b[0, 0, 0, 0] = 255
    assert media.psnr(a, b) == pytest.approx(10 * np.log10(96))
    assert media.psnr(a[0], a[0] + np.uint8(255)) == 0
    with pytest.raises(MediaError, match="equally large"):
        media.psnr(a, b[:1])
