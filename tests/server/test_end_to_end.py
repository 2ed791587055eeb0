"""The real `openai` client against a real server with a real worker and a model of random weights."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from homereel import media
from homereel.server.settings import Settings
from tests.server.conftest import png
from tests.server.running import Running, running, wait_for, working

warnings.filterwarnings("ignore", category=DeprecationWarning)


@pytest.fixture
def server(data: Path, at_home: None) -> Iterator[Running]:
    with running(Settings(data=data, port=0, workers=0)) as started:
        yield started


@pytest.fixture
def openai(server: Running) -> Iterator[Any]:
    from openai import OpenAI

    with OpenAI(api_key="none is needed", base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client


def test_the_openai_client_creates_polls_downloads_remixes_edits_and_deletes(
    openai: Any, server: Running, tmp_path: Path
) -> None:
    import openai as sdk

    with working(server.settings):
        wish = {"prompt": "a red ball falls", "model": "tiny", "size": "32x32", "seconds": "0.6"}
        video = openai.videos.create_and_poll(**wish, extra_body={"seed": 7, "num_inference_steps": 2})
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        assert (video.size, video.seconds) == ("32x32", "0.625")
        openai.videos.download_content(video.id).write_to_file(tmp_path / "clip.mp4")
        assert media.probe(tmp_path / "clip.mp4").width == 32
        assert len(media.read_clip(tmp_path / "clip.mp4").frames) == 5
        for variant, mark in (("thumbnail", b"RIFF"), ("spritesheet", b"\xff\xd8\xff")):
            assert openai.videos.download_content(video.id, variant=variant).content.startswith(mark)
        remix = openai.videos.poll(openai.videos.remix(video.id, prompt="a blue ball falls").id)
        assert (remix.status, remix.remixed_from_video_id) == ("completed", video.id)
        assert remix.homereel["seed"] == video.homereel["seed"] == 7
        named = {"video": {"id": video.id}}  # the client itself would only take a file
        edits = [
            openai.videos.edit(prompt="a green ball", video=sdk.omit, extra_body=named),
            openai.videos.edit(prompt="a green ball", video=tmp_path / "clip.mp4", extra_body={"model": "tiny"}),
        ]
        assert [openai.videos.poll(edit.id).status for edit in edits] == ["completed"] * 2
        picture = openai.videos.create_and_poll(
            prompt="a red ball",
            model="tiny-image",
            input_reference=("a.png", io.BytesIO(png())),
            extra_body={"steps": 1},
        )
        assert picture.status == "completed", picture.error
    made = [video.id, remix.id, *(edit.id for edit in edits), picture.id]
    assert [one.id for one in openai.videos.list(limit=2)] == made[::-1]
    assert openai.videos.delete(remix.id).deleted
    with pytest.raises(sdk.NotFoundError):
        openai.videos.retrieve(remix.id)
    with pytest.raises(sdk.BadRequestError, match="width and height in pixels") as wrong:
        openai.videos.create(prompt="a red ball", model="tiny", size="huge")
    assert wrong.value.param == "size"
    with pytest.raises(sdk.BadRequestError, match="models that can"):
        openai.videos.extend(prompt="a red ball", seconds="4", video=sdk.omit, extra_body=named)
    assert openai.models.list().data[0].id == "pocket"


def test_case_34_a_clip_in_work_is_cancelled_within_a_step(openai: Any, server: Running) -> None:
    with working(server.settings):
        video = openai.videos.create(prompt="a red ball", model="tiny", extra_body={"steps": 1000})
        wait_for(lambda: openai.videos.retrieve(video.id).status == "in_progress")
        httpx2.post(f"{server.url}/api/v1/jobs/{video.id}/cancel").raise_for_status()
        ended = openai.videos.poll(video.id, poll_interval_ms=50)
    assert (ended.status, ended.error.code) == ("failed", "cancelled")
    assert not list(server.settings.data.rglob("*.mp4"))


def test_events_tell_the_whole_way_and_are_taken_up_again(server: Running) -> None:
    seen: list[dict[str, Any]] = []
    url = f"{server.url}/api/v1/events"

    def follow(after: int, until: str) -> None:
        with httpx2.stream("GET", url, params={"previews": "data"}, headers={"last-event-id": str(after)}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    seen.append({"id": int(line[4:])})
                if line.startswith("data: "):
                    seen[-1] |= json.loads(line[6:])
                    if seen[-1]["kind"] == until:
                        return

    follower = threading.Thread(target=follow, args=(0, "completed"))
    follower.start()
    job = httpx2.post(f"{server.url}/api/v1/jobs", json={"prompt": "a red ball", "model": "tiny"}).json()
    with working(server.settings):
        follower.join()
    kinds = [event["kind"] for event in seen]
    assert kinds[0] == "submitted"
    assert kinds[-1] == "completed"
    assert {event["job"] for event in seen} == {job["id"]}
    assert [event["id"] for event in seen] == sorted({event["id"] for event in seen})
    assert seen[-1]["progress"] == 100
    last = seen[0]["id"]
    again, seen = seen, []
    follow(last, "completed")
    assert seen[-1] == again[-1]
    assert seen[0]["id"] > last


def test_sigterm_ends_streams_and_the_server(data: Path) -> None:
    command = [sys.executable, "-m", "homereel.server", "--port", "0", "--workers", "0", "--data", str(data)]
    environment = {**os.environ, "HOMEREEL_TOKEN": "a-token-that-nobody-would-guess"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "takes requests" in line
        url = line.split()[1]
        assert httpx2.get(f"{url}/v1/videos").status_code == 401
        right = {"authorization": "Bearer a-token-that-nobody-would-guess"}
        with httpx2.stream("GET", f"{url}/api/v1/events", headers=right) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry")
            process.send_signal(signal.SIGTERM)
            assert not [rest for rest in lines if rest.startswith("data")]
        process.wait(timeout=120)
        assert process.returncode in (0, -signal.SIGTERM)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


_UPLOAD = (
    "POST /api/v1/uploads HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9000000\r\n"
    "content-type: multipart/form-data; boundary=x\r\n\r\n"
    '--x\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
)


def connection(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60)


def test_a_client_that_stops_in_the_midst_is_let_go(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homereel.server.guard._PATIENCE_SECONDS", 0.2)
    with connection(server) as line:
        line.sendall(_UPLOAD.encode() + png())
        told = b""
        while piece := line.recv(10_000):  # it ends, since the server closes
            told += piece
    assert told.startswith(b"HTTP/1.1 408")
    assert b"too_slow" in told
    wait_for(lambda: not list((server.settings.data / "uploads").iterdir()))


def test_an_upload_that_is_cut_off_leaves_nothing(server: Running) -> None:
    uploads = server.settings.data / "uploads"
    with connection(server) as line:
        line.sendall(_UPLOAD.encode() + png() + bytes(2_000_000))
        wait_for(lambda: uploads.exists() and any(path.stat().st_size for path in uploads.iterdir()))
    wait_for(lambda: not list(uploads.iterdir()))
    assert httpx2.get(f"{server.url}/health").status_code == 200
