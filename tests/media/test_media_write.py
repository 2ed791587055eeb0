"""Writing: formats, sizes, same bytes twice, frames from a generator, and nothing left behind whatever
happens.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import InvalidRequest, MediaError, UnwritableTarget
from homereel.media.encode_mp4 import crf_of

Clip = NDArray[np.uint8]
CLIP_FILES = ["a.mp4", "a.gif", "a.webp", "a.png"]
FRAME_TARGETS = ["new/", "old/", "x_%03d.png"]
TARGETS = [*CLIP_FILES, *FRAME_TARGETS]


def target(folder: Path, name: str) -> str:
    (folder / "old").mkdir(exist_ok=True)
    return f"{folder}/{name}"


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path != folder / "old")


@pytest.mark.parametrize(
    ("name", "least_db"), [("a.mp4", 30), ("a.gif", 38), ("a.webp", 30), ("new/", 99), ("x_%03d.png", 99)]
)
def test_a_clip_comes_back(tmp_path: Path, clip: Clip, name: str, least_db: float) -> None:
    """Bounds: 4:2:0 colour costs most at the edge of the disc (33 dB here), a palette far less, PNG
    nothing.
    """
    path = target(tmp_path, name)
    media.write_clip(clip, path, fps=16)
    back = media.read_clip(path)
    assert back.frames.shape == clip.shape
    assert back.fps == 16
    assert media.psnr(back.frames, clip) > least_db


def test_flat_colours_keep_their_shade_in_mp4(tmp_path: Path) -> None:
    """A wrong colour matrix shifts these by 10 and more; rounding in 8-bit YUV by 3 at most."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)]
    frames = np.array(colours, dtype=np.uint8)[:, None, None, :].repeat(32, 1).repeat(32, 2)
    path = media.write_clip(frames, tmp_path / "c.mp4", fps=10, quality=100)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )
    back = media.read_clip(path).frames
    assert np.abs(back.astype(int) - frames.astype(int)).max() <= 3


@pytest.mark.parametrize("name", TARGETS)
def test_same_frames_give_same_bytes(tmp_path: Path, clip: Clip, record: dict[str, Any], name: str) -> None:
    contents = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        media.write_clip(clip, target(tmp_path / run, name), fps=16, record=record)
        contents.append({file: (tmp_path / run / file) for file in files_in(tmp_path / run)})
    first, second = contents
    assert first.keys() == second.keys()
    for file, path in first.items():
        assert path.is_dir() or path.read_bytes() == second[file].read_bytes()


_SHADES = """
import sys, numpy as np
from homereel.media import write_clip
shades = np.kron(np.random.default_rng(0).integers(0, 255, (12, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
write_clip(np.stack([np.roll(shades, 2 * k, 1) for k in range(33)]), sys.argv[1], fps=16)
"""


def test_what_memory_held_before_does_not_show(tmp_path: Path) -> None:
    """x264 with AVX-512 reads memory that it never wrote; glibc fills what is handed out with these values."""
    contents = set()
    for value in ("1", "37", "201"):
        path = tmp_path / f"{value}.mp4"
        surroundings = {**os.environ, "MALLOC_PERTURB_": value}
        subprocess.run([sys.executable, "-c", _SHADES, str(path)], check=True, env=surroundings)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_mp4_starts_at_once_and_names_no_date_or_library(mp4: Path) -> None:
    content = mp4.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"Lavf" not in content
    created = content.index(b"mvhd") + 8
    assert content[created : created + 8] == bytes(8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (47, 64), (48, 63)])
def test_odd_sizes_double_their_last_row_and_column_in_mp4(tmp_path: Path, height: int, width: int) -> None:
    frames = np.zeros((2, height, width, 3), dtype=np.uint8)
    frames[:, -1, -1] = 255
    back = media.read_clip(media.write_clip(frames, tmp_path / "odd.mp4", fps=16, quality=100)).frames
    assert back.shape == (2, height + height % 2, width + width % 2, 3)
    assert back[0, -1, -1].min() > 200


def test_quality_trades_size_for_likeness(tmp_path: Path, clip: Clip) -> None:
    sizes, likeness = [], []
    for quality in (10, 60, 100):
        path = media.write_clip(clip, tmp_path / f"{quality}.mp4", fps=16, quality=quality)
        sizes.append(path.stat().st_size)
        likeness.append(media.psnr(media.read_clip(path).frames, clip))
    assert sizes == sorted(sizes)
    assert likeness == sorted(likeness)
    assert [crf_of(quality) for quality in (0, 80, 100)] == [51, 15, 1]


@pytest.mark.parametrize("fps", [0.5, 12, 15, 23.976, 24, 30, 60])
@pytest.mark.parametrize("name", ["a.mp4", "a.webp"])
def test_speed_is_kept(tmp_path: Path, clip: Clip, name: str, fps: float) -> None:
    back = media.read_clip(media.write_clip(clip, tmp_path / name, fps=fps))
    assert back.fps == pytest.approx(fps, rel=0.002)  # WebP counts whole milliseconds


def test_a_fast_gif_leaves_frames_out_instead_of_slowing_down(tmp_path: Path, clip: Clip) -> None:
    back = media.read_clip(media.write_clip(clip, tmp_path / "fast.gif", fps=60))
    assert (len(back.frames), back.fps) == (5, 30)


@pytest.mark.parametrize("name", ["still.gif", "still.webp"])
def test_equal_frames_of_an_animation_are_not_lost(
    tmp_path: Path, clip: Clip, record: dict[str, Any], name: str
) -> None:
    frames = np.repeat(clip[:3], [5, 5, 20], axis=0)
    path = media.write_clip(frames, tmp_path / name, fps=16, record=record)
    assert media.read_clip(path).frames.shape[0] == 30
    assert media.probe(path).num_frames == 30


def test_frames_are_encoded_while_they_are_made(tmp_path: Path, clip: Clip) -> None:
    """The hidden file exists while the generator still works, and the target does not."""
    seen = []

    def frames() -> Iterator[Clip]:
        for frame in clip:
            seen.append([path.name for path in tmp_path.iterdir()])
            yield frame

    media.write_clip(frames(), tmp_path / "a.mp4", fps=16)
    assert all(len(names) == 1 and names[0].startswith(".homereel-") for names in seen)
    assert files_in(tmp_path) == ["a.mp4"]


class OddError(OSError):
    """What a generator raises must come through unchanged, even if it looks like a fault of the disk."""


@pytest.mark.parametrize("error", [OddError(errno.ENOSPC, "mine"), KeyboardInterrupt(), ValueError("mine")])
@pytest.mark.parametrize("name", TARGETS)
def test_a_failing_generator_leaves_nothing(tmp_path: Path, clip: Clip, name: str, error: BaseException) -> None:
    def frames() -> Iterator[Clip]:
        yield from clip[:4]
        raise error

    path = target(tmp_path, name)
    with pytest.raises(type(error)) as caught:
        media.write_clip(frames(), path, fps=16)
    assert caught.value is error
    assert files_in(tmp_path) == []


def test_a_failed_rewrite_keeps_the_old_file(tmp_path: Path, clip: Clip) -> None:
    path = media.write_clip(clip, tmp_path / "a.mp4", fps=16)
    before = path.read_bytes()
    with pytest.raises(MediaError, match="all must be alike"):
        media.write_clip([clip[0], clip[1, :24]], path, fps=16)
    assert path.read_bytes() == before
    assert files_in(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("name", TARGETS)
def test_case_39_disk_full_during_encode(
    tmp_path: Path, clip: Clip, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = target(tmp_path, name)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableTarget, match=r"disk is full.*about [\d,]+ bytes are needed"):
        media.write_clip(clip, path, fps=16)
    assert files_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the file size")
@pytest.mark.parametrize("name", TARGETS)
def test_case_39_a_write_that_the_system_refuses(tmp_path: Path, name: str) -> None:
    """A real refusal deep inside the encoders: the process may write files of 2 kB at most."""
    code = """
import resource, sys
import numpy as np
from homereel import media
from homereel.core.errors import UnwritableTarget
noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    media.write_clip(noise, sys.argv[1], fps=16)
except UnwritableTarget as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, target(tmp_path, name)], capture_output=True, text=True, check=True
    )
    assert "larger than this disk or shell allows" in done.stdout
    assert files_in(tmp_path) == []


def test_case_40_disk_full_before_the_start(tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(UnwritableTarget, match="1,000 bytes free, and about 5,000,000 are needed"):
        media.check_target(tmp_path / "a.mp4", needed_bytes=5_000_000)
    with pytest.raises(UnwritableTarget, match="1,000 bytes free"):
        media.write_clip(clip, tmp_path / "a.mp4", fps=16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/a.mp4", "no folder"),
        ("a.avi", r"ends in '\.avi'.*\.mp4, \.gif"),
        ("clip", "has no ending"),
        ("taken.mp4", "earlier|folder|frames|regular"),
        ("x" * 252 + ".mp4", "shorter"),
        ("a\0.mp4", "cannot be a file"),
        ("file/", "is a file"),
        (".homereel-x.mp4", "temporary"),
    ],
)
def test_a_hopeless_target_is_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "taken.mp4")
    before = files_in(tmp_path)
    with pytest.raises(UnwritableTarget, match=message) as caught:
        media.check_target(f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == before


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def denied(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(UnwritableTarget, match="Permission denied"):
        media.check_target(tmp_path / "a.mp4")


def test_frames_of_two_runs_never_mix(tmp_path: Path, clip: Clip) -> None:
    media.write_clip(clip, f"{tmp_path}/run/", fps=16)
    with pytest.raises(UnwritableTarget, match=r"holds frames already \(frame_0000\.png\)"):
        media.check_target(tmp_path / "run")
    media.check_target(tmp_path / "run" / "other_%04d.png")


def test_a_percent_sign_in_a_name_is_only_a_counter_before_d(tmp_path: Path, clip: Clip) -> None:
    media.write_clip(clip[:2], tmp_path / "100%s_%n_%02d.png", fps=16)
    assert files_in(tmp_path) == ["100%s_%n_00.png", "100%s_%n_01.png"]
    media.write_clip(clip[:2], tmp_path / "100%.png", fps=16)
    assert (tmp_path / "100%.png").is_file()


def test_an_existing_file_with_a_counter_in_its_name_is_read_as_itself(tmp_path: Path, clip: Clip) -> None:
    path = media.write_clip(clip, tmp_path / "a.gif", fps=16).rename(tmp_path / "a_%04d.png")
    assert media.read_clip(path).frames.shape == clip.shape


def test_a_target_gets_usual_permissions(tmp_path: Path, clip: Clip) -> None:
    old = os.umask(0o022)
    try:
        path = media.write_clip(clip, tmp_path / "a.mp4", fps=16)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1000])
def test_impossible_speeds_are_refused(tmp_path: Path, clip: Clip, fps: float) -> None:
    with pytest.raises(InvalidRequest, match="frames a second") as caught:
        media.write_clip(clip, tmp_path / "a.mp4", fps=fps)
    assert caught.value.field == "fps"


@pytest.mark.parametrize("quality", [-1, 101])
def test_impossible_qualities_are_refused(tmp_path: Path, clip: Clip, quality: int) -> None:
    with pytest.raises(InvalidRequest, match="0 to 100"):
        media.write_clip(clip, tmp_path / "a.mp4", fps=16, quality=quality)


@pytest.mark.parametrize(
    "frames", [[], np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8), np.zeros((2, 8, 8, 3))]
)
def test_frames_that_are_none_are_refused(tmp_path: Path, frames: Any) -> None:
    with pytest.raises(MediaError, match="frame"):
        media.write_clip(frames, tmp_path / "a.mp4", fps=16)
    assert files_in(tmp_path) == []


def test_the_sidecar_lies_beside_the_clip(tmp_path: Path, record: dict[str, Any]) -> None:
    path = media.write_sidecar(tmp_path / "clip.mp4", record)
    assert path == tmp_path / "clip.mp4.json"
    assert json.loads(path.read_text()) == record
    assert media.read_record(path) == record
    assert files_in(tmp_path) == ["clip.mp4.json"]


def test_importing_the_room_loads_no_codec() -> None:
    code = "import sys, homereel.media; print([name for name in ('av', 'PIL', 'torch') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
