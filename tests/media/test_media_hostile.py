"""Hostile files and names: each numbered case of the security suite that ends in this room, with a real
file.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import UnreadableMedia
from homereel.media.limits import MAX_IMAGE_PIXELS

Clip = NDArray[np.uint8]
Patch = Callable[[bytearray], None]
Patched = Callable[[Patch], Path]
Put = Callable[[bytearray, bytes, int, int], None]
READERS: list[Callable[[Path], object]] = [media.read_clip, media.probe, media.read_record]


def refuse(path: Path | str, *, match: str) -> None:
    """Every reader refuses the file, soon and in one line."""
    start = time.perf_counter()
    for reader in READERS:
        with pytest.raises(UnreadableMedia, match=match) as caught:
            reader(Path(path))
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 2


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_case_19_png_of_13000_squared_is_refused_before_decoding(tmp_path: Path) -> None:
    side = 13_000
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    )
    assert path.stat().st_size < 30_000
    start = time.perf_counter()
    with pytest.raises(UnreadableMedia, match=f"13000x13000 pixels; at most {MAX_IMAGE_PIXELS:,}"):
        media.read_image(path)
    with pytest.raises(UnreadableMedia, match="13000x13000"):
        media.probe(path)
    assert time.perf_counter() - start < 0.5  # decoding it takes seconds


@pytest.mark.parametrize("chunk", [b"VP8X", b"VP8L", b"VP8 "])
def test_case_19_webp_of_16384_squared_is_refused_before_decoding(tmp_path: Path, chunk: bytes) -> None:
    side = 16_383
    bodies = {
        b"VP8X": bytes(4) + (side - 1).to_bytes(3, "little") * 2,
        b"VP8L": b"\x2f" + ((side - 1) | (side - 1) << 14).to_bytes(4, "little") + bytes(5),
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", side, side),
    }
    body = chunk + struct.pack("<I", 10) + bodies[chunk]
    path = tmp_path / "bomb.webp"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    with pytest.raises(UnreadableMedia, match="16383x16383"):
        media.read_image(path)


def tiny_gif(num_pictures: int, *, side: int = 1) -> bytes:
    """Each picture takes 23 bytes and shows one pixel."""
    start = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + bytes(6)
    picture = b"\x21\xf9\x04\0\x02\0\0\0" + b"\x2c" + bytes(4) + struct.pack("<HH", 1, 1) + b"\0\x02\x02\x44\x01\0"
    return start + picture * num_pictures + b"\x3b"


def test_case_20_gif_of_100k_frames_is_capped(tmp_path: Path) -> None:
    path = tmp_path / "long.gif"
    path.write_bytes(tiny_gif(100_000))
    start = time.perf_counter()
    with pytest.raises(UnreadableMedia, match="more than 20,000 frames"):
        media.read_clip(path)
    assert time.perf_counter() - start < 0.5  # counted from the structure; decoding takes longer
    path.write_bytes(tiny_gif(100))
    assert media.read_clip(path).frames.shape == (100, 1, 1, 3)


def test_case_20_gif_that_lasts_hours_is_capped(tmp_path: Path) -> None:
    """Two pictures, the second for eleven minutes at a tick of 20 ms: 32,768 frames once evenly timed."""
    content = bytearray(tiny_gif(2))
    at = content.rindex(b"\x21\xf9") + 4
    content[at : at + 2] = b"\xff\xff"
    path = tmp_path / "slow.gif"
    path.write_bytes(content)
    with pytest.raises(UnreadableMedia, match="more than 20,000 frames"):
        media.read_clip(path)


def test_case_20_gif_with_a_huge_canvas_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.gif"
    path.write_bytes(tiny_gif(2, side=65_535))
    for reader in (media.read_clip, media.read_image, media.probe):
        with pytest.raises(UnreadableMedia, match="65535x65535"):
            reader(path)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile good.mp4\n",
        "\ufeffffconcat version 1.0\nfile 'good.mp4'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{folder}/good.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:10,\nfile://{folder}/good.mp4\n",
    ],
)
def test_case_21_playlists_named_mp4_are_refused(mp4: Path, text: str) -> None:
    path = mp4.with_name("list.mp4")
    path.write_text(text.replace("{folder}", str(mp4.parent)), encoding="utf-8")
    refuse(path, match="is a playlist")


@pytest.mark.parametrize("name", ["concat:good.mp4|good.mp4", "http://localhost/good.mp4", "file:good.mp4"])
def test_case_22_protocols_in_a_name_are_a_literal_path(
    mp4: Path, clip: Clip, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mp4.parent)
    refuse(name, match="there is no file")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    assert media.write_clip(clip, name, fps=16) == Path(name)
    assert Path(name).stat().st_size == mp4.stat().st_size
    assert media.read_clip(name).frames.shape == clip.shape
    assert media.probe(name).num_frames == len(clip)


@pytest.mark.parametrize("name", ["-i.mp4", "-f lavfi.mp4", "a;touch x.mp4", "a\nfile b.mp4", "$(x) `y`.mp4"])
def test_case_23_odd_names_are_names(mp4: Path, clip: Clip, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mp4.parent)
    refuse(name, match="there is no file")
    media.write_clip(clip, name, fps=16)
    assert media.read_clip(name).frames.shape == clip.shape
    assert media.probe(name).num_frames == len(clip)
    assert sorted(path.name for path in Path().iterdir()) == sorted(["good.mp4", name])


def test_case_24_sizes_of_65535_squared(patched: Patched, put: Put) -> None:
    path = patched(lambda content: put(content, b"avc1", 24, 0xFFFFFFFF))
    assert path.stat().st_size < 4096
    refuse(path, match="claims frames of 65535x65535 pixels")


def test_case_24_a_billion_frames(patched: Patched, put: Put) -> None:
    """Constant sample size and a count: the demuxer alone would build an index of 24 GB from 16 bytes."""

    def claim(content: bytearray) -> None:
        put(content, b"stsz", 4, 1)
        put(content, b"stsz", 8, 10**9)

    refuse(patched(claim), match="claims 1,000,000,000 frames")


def test_case_24_a_billion_audio_samples(patched: Patched, put: Put) -> None:
    def claim(content: bytearray) -> None:
        content[:] = content.replace(b"vide", b"soun")
        put(content, b"stsz", 8, 10**9)

    refuse(patched(claim), match="1,000,000,000 samples in a file of")


def test_case_24_a_billion_time_steps(patched: Patched, put: Put) -> None:
    refuse(patched(lambda content: put(content, b"stts", 8, 10**9)), match="1,000,000,000 time steps")


def test_case_24_a_billion_fragments_samples(mp4: Path) -> None:
    """A fragment behind the index: its run of samples has no bytes at all."""
    run = struct.pack(">I4sIII", 20, b"trun", 0, 10**9, 0)
    traf = struct.pack(">I4s", 8 + len(run), b"traf") + run
    path = mp4.with_name("fragment.mp4")
    path.write_bytes(mp4.read_bytes() + struct.pack(">I4s", 8 + len(traf), b"moof") + traf)
    refuse(path, match="1,000,000,009 samples")


def test_case_24_tables_hidden_where_none_may_be(patched: Patched) -> None:
    """A demuxer also looks for tables behind the fields of a sample description."""

    def hide(content: bytearray) -> None:
        at = content.index(b"avcC")
        content[at : at + 4] = b"stsz"

    refuse(patched(hide), match="'stsz' where none may be")


def test_case_24_a_compressed_index(patched: Patched) -> None:
    def compress(content: bytearray) -> None:
        at = content.index(b"mvhd")
        content[at : at + 4] = b"cmov"

    refuse(patched(compress), match="a compressed index")


def test_case_24_a_duration_of_years(patched: Patched, put: Put) -> None:
    refuse(patched(lambda content: put(content, b"mvhd", 16, 0xFFFFFFF0)), match=r"claims 4,294,967 seconds")


def test_case_24_boxes_without_end(tmp_path: Path) -> None:
    nested = b""
    for _ in range(40):
        nested = struct.pack(">I4s", 8 + len(nested), b"moov") + nested
    path = tmp_path / "deep.mp4"
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + nested)
    refuse(path, match="nested more than")


def test_case_24_frames_larger_than_the_index_says(tmp_path: Path, put: Put) -> None:
    """The index says 64 x 48, the stream itself 320 x 240: the decoder's word counts."""
    frames = np.zeros((3, 240, 320, 3), dtype=np.uint8)
    path = media.write_clip(frames, tmp_path / "liar.mp4", fps=16)
    content = bytearray(path.read_bytes())
    put(content, b"avc1", 24, 64 << 16 | 48)
    path.write_bytes(content)
    with pytest.raises(UnreadableMedia, match=r"frames of 320x240|cannot be decoded"):
        media.read_clip(path, limits=media.Limits(max_pixels=64 * 64))
    assert media.read_clip(path).frames.shape == frames.shape


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (media.Limits(max_frames=8), "9 frames"),
        (media.Limits(max_pixels=64 * 47), "64x48 pixels"),
        (media.Limits(max_seconds=0.5), "seconds"),
        (media.Limits(max_decoded_bytes=64 * 48 * 3 * 8), "bytes of memory decoded"),
        (media.Limits(max_file_bytes=100), "at most 100 are read"),
    ],
)
def test_every_limit_holds(mp4: Path, limits: media.Limits, message: str) -> None:
    with pytest.raises(UnreadableMedia, match=message):
        media.read_clip(mp4, limits=limits)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG, HTML or XML"),
        (b"<?xml version='1.0'?><svg/>", "SVG, HTML or XML"),
        (b"<!DOCTYPE html><html></html>", "SVG, HTML or XML"),
        (b"%PDF-1.7", "neither a picture nor a clip"),
        (b"II*\0" + bytes(60), "TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC or AVIF"),
        (b"\x80\x04cos\nsystem\n", "neither a picture nor a clip"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded|is damaged"),
        (b"GIF89a", "cannot be decoded|is damaged"),
        (b"\xff\xd8\xff", "cannot be decoded"),
        (b"RIFF\0\0\0\0WEBP", "claims a size|cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for reader in (media.read_image, media.probe):
        with pytest.raises(UnreadableMedia, match=message):
            reader(path)


def test_folders_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", Path("/dev/zero")):
        refuse(path, match="is not a regular file")
    for path in (tmp_path, tmp_path / "x\0.mp4"):
        for reader in (media.read_image, media.read_clip, media.probe, media.read_record):
            with pytest.raises(UnreadableMedia):
                reader(path)


def test_damaged_files_raise_nothing_else(tmp_path: Path, clip: Clip) -> None:
    """Two hundred spoilt copies: each is read or refused with UnreadableMedia, and nothing else happens."""
    chance = np.random.default_rng(5)
    path = tmp_path / "spoilt"
    for name in ("a.mp4", "a.gif", "a.webp", "a.png"):
        good = media.write_clip(clip, tmp_path / name, fps=16).read_bytes()
        for _ in range(50):
            content = bytearray(good)
            for at in chance.integers(0, len(content), 8):
                content[at] = chance.integers(0, 256)
            path.write_bytes(content[: chance.integers(len(content) // 2, len(content))])
            for reader in (media.read_clip, media.read_image, media.probe, media.read_record):
                with suppress(UnreadableMedia):
                    reader(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_hostile_claims_cost_no_memory(patched: Patched, put: Put) -> None:
    """The refusal of a billion frames happens inside 2 GiB of address space, where the index alone needs
    24.
    """

    def claim(content: bytearray) -> None:
        put(content, b"stsz", 4, 1)
        put(content, b"stsz", 8, 10**9)

    path = patched(claim)
    code = """
import resource, sys
from homereel import media
from homereel.core.errors import UnreadableMedia
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
try:
    media.read_clip(sys.argv[1])
except UnreadableMedia:
    print("refused")
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    output = subprocess.check_output([sys.executable, "-c", code, str(path)], text=True, env=environment)
    assert output.strip() == "refused"
