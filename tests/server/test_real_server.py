"""`homereel serve` as a user starts it, with a worker and the model that comes with the package, and its sudden end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from homereel import media
from tests.server.running import wait_for

warnings.filterwarnings("ignore", category=DeprecationWarning)

PATIENCE_SECONDS = 600.0  # on a machine with much else to do
NUM_FLOOD = 12


@dataclass(frozen=True)
class Started:
    """A server in its own process."""

    process: subprocess.Popen[str]
    url: str

    def get(self, path: str) -> Any:
        """The answer's JSON."""
        return httpx2.get(f"{self.url}{path}", timeout=PATIENCE_SECONDS).raise_for_status().json()


@contextmanager
def started(data: Path, *, workers: int) -> Iterator[Started]:
    """`homereel serve` until the context ends, in order if it is still there."""
    words = ["serve", "--port", "0", "--data", str(data), "--workers", str(workers)]
    with subprocess.Popen([sys.executable, "-m", "homereel", *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "takes requests" in line, line + process.stderr.read()
            yield Started(process, line.split()[1])
        finally:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE_SECONDS)
            finally:
                process.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_case_27_films_of_pocket_for_the_openai_client_and_kill_9_of_the_server_loses_nothing(
    data: Path, tmp_path: Path
) -> None:
    from openai import BadRequestError, OpenAI

    with started(data, workers=1) as server:
        with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0, timeout=PATIENCE_SECONDS) as client:
            video = _films(client, tmp_path, wrong=BadRequestError)
        (worker,) = server.get("/api/v1/status")["workers"]
        planner = _planner_of(server.process.pid)
        with _flooded(server) as acknowledged:
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        assert len(acknowledged) >= NUM_FLOOD
    wait_for(lambda: not any(_runs(pid) for pid in (worker["pid"], *planner)), seconds=PATIENCE_SECONDS)
    with started(data, workers=0) as server:
        found = {job["id"]: job for job in server.get("/api/v1/jobs?limit=100")["data"]}
        assert set(acknowledged) <= set(found)
        assert {found[job]["status"] for job in acknowledged} <= {"queued", "running"}
        assert all(found[job]["request"]["seed"] == index for index, job in enumerate(acknowledged))
        again = httpx2.get(f"{server.url}/v1/videos/{video}/content").raise_for_status()
    assert again.content == (tmp_path / "clip.mp4").read_bytes()


def _planner_of(server: int) -> list[int]:
    """The process that plans for a server, which has planned: it alone has torch, and no line to the server's clients.
    Empty where the system does not tell.
    """
    if not sys.platform.startswith("linux"):
        return []
    assert "libtorch" not in Path(f"/proc/{server}/maps").read_text(encoding="utf-8")
    commands = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/cmdline")}
    found = [pid for pid, path in commands.items() if "planning_child" in _text(path) and _parent(pid) == server]
    (pid,) = found
    assert "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    assert not any("socket:" in str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
    return found


def _parent(pid: int) -> int:
    return int(_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[1])


def _text(path: Path) -> str:
    """Nothing for a process that has gone meanwhile."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _films(client: Any, folder: Path, *, wrong: type[Exception]) -> str:
    """Have one made and another from it; the id of the first, which lies in the folder then."""
    few = {"num_inference_steps": 2, "seed": 7}
    wish = {"prompt": "a red ball bounces on a green floor", "model": "pocket", "size": "64x64", "seconds": "1"}
    video = client.videos.create_and_poll(**wish, extra_body=few)
    assert (video.status, video.progress, video.error, video.size) == ("completed", 100, None, "64x64")
    client.videos.download_content(video.id).write_to_file(folder / "clip.mp4")
    clip = media.read_clip(folder / "clip.mp4")
    assert clip.frames.shape[1:] == (64, 64, 3)
    assert len(clip.frames) == video.homereel["num_frames"]
    remix = client.videos.poll(client.videos.remix(video.id, prompt="a blue box spins on a white floor").id)
    assert (remix.status, remix.remixed_from_video_id, remix.seconds) == ("completed", video.id, video.seconds)
    for size, words in (("banana", "width and height in pixels"), ("4096x4096", "the nearest that it makes is")):
        with pytest.raises(wrong, match=words):
            client.videos.create(**{**wish, "size": size})
    return str(video.id)


@contextmanager
def _flooded(server: Started) -> Iterator[list[str]]:
    """Ids of jobs in the order in which they were acknowledged, some of them; more come until the server is gone."""
    ids: list[str] = []

    def submit() -> None:
        with httpx2.Client(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
            while server.process.poll() is None:
                body = {"prompt": "a red ball", "model": "pocket", "seed": len(ids), "steps": 1000}
                try:
                    answer = client.post("/api/v1/jobs", json=body)
                except httpx2.TransportError:  # killed
                    return
                ids.append(answer.raise_for_status().json()["id"])

    thread = threading.Thread(target=submit, name="flood")
    thread.start()
    try:
        wait_for(lambda: len(ids) >= NUM_FLOOD or not thread.is_alive(), seconds=PATIENCE_SECONDS)
        yield ids
    finally:
        server.process.kill()
        thread.join()


def _runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be forgotten."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
