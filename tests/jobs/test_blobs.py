"""A job's folder: names that are ours, files that are whole, and no way out of it."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from homereel.core.errors import TooLarge, UnknownJob, UnwritableTarget
from homereel.jobs.blobs import CLIP, JobFolder, sweep
from homereel.jobs.records import new_job_id


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """A job's folder that is there."""
    made = JobFolder(tmp_path, new_job_id())
    made.make()
    return made


@pytest.mark.parametrize("name", ["", "..", "../x", "video_" + "0" * 31 + "/", "CON", "a\0b", "video_" + "A" * 32])
def test_case_15_only_an_id_is_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownJob):
        JobFolder(tmp_path, name)


@pytest.mark.parametrize("suffix", [".PNG", "", "../../x", ".a/b", "\0", ".p n", "." + "a" * 99, ".con:x"])
def test_case_15_an_upload_gets_a_random_name(folder: JobFolder, suffix: str) -> None:
    first, second = (folder.put_input(io.BytesIO(b"picture"), suffix) for _ in range(2))
    assert first != second
    assert first.parent == folder.inputs
    assert re.fullmatch(r"[0-9a-f]{32}(\.png)?", first.name)
    assert (first.suffix == ".png") == (suffix == ".PNG")
    assert first.read_bytes() == b"picture"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_an_upload_that_is_too_large_is_not_kept(folder: JobFolder) -> None:
    assert folder.put_input(io.BytesIO(b"x" * 100), max_bytes=100).stat().st_size == 100
    with pytest.raises(TooLarge, match="more than the 100 bytes"):
        folder.put_input(io.BytesIO(b"x" * 101), max_bytes=100)
    assert len(list(folder.inputs.iterdir())) == 1


def test_a_source_that_fails_leaves_nothing(folder: JobFolder) -> None:
    class Cut(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("the client is gone")

    with pytest.raises(UnwritableTarget):
        folder.put_input(Cut())  # type: ignore[arg-type]
    assert list(folder.inputs.iterdir()) == []


def test_case_41_a_file_is_there_whole_or_not_at_all(folder: JobFolder) -> None:
    part = folder.path / ".part"
    part.write_bytes(b"film")
    assert not folder.clip.exists()
    assert folder.publish(part, CLIP) == folder.clip
    assert folder.clip.read_bytes() == b"film"
    assert not part.exists()
    assert folder.publish(part, CLIP) == folder.clip
    with pytest.raises(UnwritableTarget):
        folder.publish(part, "other.mp4")


def test_case_16_nothing_is_read_through_a_link(folder: JobFolder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder.clip.symlink_to(secret)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    folder.inputs.symlink_to(outside)
    if sys.platform != "win32":
        os.mkfifo(folder.thumbnail)
    for path in (folder.clip, folder.inputs / "file", folder.inputs, folder.thumbnail, folder.path, secret):
        assert not folder.is_inside(path)
    assert not folder.is_inside(folder.path / ".." / "secret")
    for name in (CLIP, "inputs/file", "inputs", "../../secret", str(secret), "thumbnail.webp", "none", "a\0b"):
        with pytest.raises(FileNotFoundError):
            folder.open(name)
    folder.preview.write_bytes(b"mine")
    assert folder.is_inside(folder.preview)
    with folder.open("preview.webp") as file:
        assert file.read() == b"mine"


def test_case_16_a_folder_that_is_a_link_serves_nothing(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, new_job_id())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / CLIP).write_bytes(b"secret")
    folder.path.parent.mkdir()
    folder.path.symlink_to(tmp_path / "elsewhere")
    assert not folder.is_inside(folder.clip)
    folder.remove()
    assert (tmp_path / "elsewhere" / CLIP).exists()


def test_remove_takes_all_but_what_links_point_at(folder: JobFolder, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"")
    (folder.path / "link").symlink_to(kept)
    folder.put_input(io.BytesIO(b"a"))
    folder.remove()
    folder.remove()
    assert list(folder.path.parent.iterdir()) == []
    assert (kept / "file").exists()


def test_sweep_takes_what_killed_processes_left(tmp_path: Path) -> None:
    known, young, old = (JobFolder(tmp_path, new_job_id()) for _ in range(3))
    for folder in (known, young, old):
        folder.make()
    for folder in (known, old):
        os.utime(folder.path, (0, 0))
    (tmp_path / "jobs" / ".gone-1234").mkdir()
    (tmp_path / "jobs" / "mine").mkdir()
    assert sweep(tmp_path, is_known=known.id.__eq__) == 2
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {known.id, young.id, "mine"}
    assert sweep(tmp_path / "nowhere", is_known=known.id.__eq__) == 0


def test_the_log_is_read_from_its_end(folder: JobFolder) -> None:
    assert folder.read_log() is None
    folder.log.write_bytes("first line\nsecond lïne\n".encode() + b"\xff third\n")
    assert folder.read_log() == "first line\nsecond lïne\n\ufffd third\n"
    assert folder.read_log(max_bytes=12) == "\ufffd third\n"
