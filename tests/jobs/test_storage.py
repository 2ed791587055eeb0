"""A disk that is full, before the start and while the clip is written: a real one, small, in memory."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel.jobs.store import JobStore
from homereel.media.encode_mp4 import encode_mp4
from tests.jobs.bench import FINISHED, Bench, undisturbed

DISK_BYTES = 16 * 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a small file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # PyAV keeps a file open that it could not end


@pytest.fixture
def bench(disk: Path, tiny_model_dir: Path) -> Iterator[Bench]:
    with JobStore.in_folder(disk, patience_seconds=0.2) as store:
        yield Bench(store, disk, tiny_model_dir)


def fill(disk: Path, *, leave_bytes: int) -> None:
    """Take the room that is left, but for a little."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        file.write(bytes(shutil.disk_usage(disk).free - leave_bytes))


def noise() -> Iterator[NDArray[np.uint8]]:
    """Frames that no encoder makes small."""
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(40))


def test_40_a_disk_too_full_at_the_start_is_refused_with_the_bytes(bench: Bench) -> None:
    job = bench.submit(width=256, height=256, num_frames=61)
    ended = bench.work()
    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "storage")
    assert "18,579,456 are needed" in ended.error.message  # 0.5 of the 61 raw frames, 8 MiB and 4 MiB
    assert "bytes free" in ended.error.message
    assert bench.names(job) == {"log.txt"}


def test_39_a_disk_full_while_encoding_leaves_the_job_to_be_resumed(
    bench: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(frames: Iterator[NDArray[np.uint8]], **named: Any) -> None:
        deque(frames, maxlen=0)  # its record is made when all are known
        fill(disk, leave_bytes=2**17)
        encode_mp4(noise(), **named)

    job = bench.submit()
    with monkeypatch.context() as patch:
        patch.setattr("homereel.media.write.encode_mp4", full)
        ended = bench.work(place=bench.place(beat_seconds=60))
    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "storage")
    assert "the disk is full" in ended.error.message
    assert shutil.disk_usage(disk).free > 2**18  # what was written of the clip takes no room
    assert bench.names(job) == {"log.txt", "state.safetensors"}
    with closing(sqlite3.connect(disk / "jobs.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    (disk / "ballast").unlink()
    bench.store.retry(job.id)
    done = bench.work()
    assert done is not None
    assert done.result is not None
    assert done.result["frames_sha256"] == undisturbed(job)
    assert "goes on after step 4" in bench.log(job)
    assert bench.names(job) == FINISHED
    bench.warm.free()
