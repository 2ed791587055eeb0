"""Files that clients bring and files that they get: cases 15 to 17 and 19 to 24."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from homereel.jobs.store import JobStore
from homereel.server.uploads import KEPT_SECONDS, UploadBox
from tests.server.conftest import Serve, error_of, parts_of, png
from tests.server.test_videos import create, finish

NAMES = [
    "../../x.png",
    "..\\x.png",
    "/x.png",
    "C:\\x.png",
    "CON",
    "nul.png",
    "x\0y.png",
    "a" * 300,
    "-rf",
    "a;b",
    "a\nb",
]


def upload(client: TestClient, content: bytes, name: str = "a.png", kind: str = "image/png") -> str:
    answer = client.post("/api/v1/uploads", files={"file": (name, content, kind)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def stored(client: TestClient) -> list[Path]:
    folder = parts_of(client).settings.data / "uploads"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_case_15_and_23_names_of_uploads_are_never_used(client: TestClient, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if path.suffix == ".png"}
    for name in NAMES:
        body = b'--x\r\ncontent-disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n\r\n'
        answer = client.post(
            "/api/v1/uploads",
            content=body + png() + b"\r\n--x--\r\n",
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert answer.status_code in (201, 400), (name, answer.text)
        assert answer.status_code == 201 or name in ("x\0y.png", "a\nb")
    files = set(tmp_path.rglob("*.png")) - before
    assert files
    assert all(re.fullmatch(r"file_[0-9a-f]{32}\.png", path.name) for path in files)
    assert {path.parent for path in files} == {parts_of(client).settings.data / "uploads"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_case_16_a_link_in_a_job_folder_is_not_served(client: TestClient, tmp_path: Path) -> None:
    video = create(client)
    finish(client, video)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = parts_of(client).settings.data / "jobs" / video["id"]
    for name, path in (("thumbnail.webp", "content?variant=thumbnail"), ("clip.mp4", "content")):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        answer = client.get(f"/v1/videos/{video['id']}/{path}")
        assert answer.status_code == 404
        assert "secret" not in answer.text
    body = {"prompt": "a ball", "video": {"id": video["id"]}}
    assert client.post("/v1/videos/edits", json=body).status_code == 409
    link = parts_of(client).settings.data / "uploads" / f"file_{'0' * 32}.png"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret)
    assert client.get(f"/api/v1/uploads/{link.stem}/content").status_code == 400


@pytest.mark.parametrize(
    "content",
    [b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", b"<!doctype html><script></script>"],
)
def test_case_17_pages_are_refused_and_files_are_for_saving(client: TestClient, content: bytes) -> None:
    for name, kind in (("a.svg", "image/svg+xml"), ("a.png", "image/png"), ("a.html", "text/html")):
        answer = client.post("/api/v1/uploads", files={"file": (name, content, kind)})
        assert answer.status_code == 400
        assert "not a picture" in error_of(answer)["message"]
    assert stored(client) == []
    shown = client.get(f"/api/v1/uploads/{upload(client, png(), 'a.html', 'text/html')}/content")
    assert shown.content == png()
    assert shown.headers["content-type"] == "application/octet-stream"
    assert shown.headers["content-disposition"].startswith("attachment")
    assert shown.headers["x-content-type-options"] == "nosniff"


def refused(client: TestClient, content: bytes, *, field: str = "image", model: str = "tiny-image") -> str:
    """What is said of a request with this file, whether the upload or the plan refuses it."""
    answer = client.post("/api/v1/uploads", files={"file": ("a.png", content)})
    if answer.status_code == 201:
        body = {"prompt": "a red ball", "model": model, field: answer.json()["id"]}
        answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 400, answer.text
    message = str(error_of(answer)["message"])
    assert str(parts_of(client).settings.data) not in message
    return message


def test_case_19_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(client: TestClient) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(13_000 * 1_626))) + chunk(b"IEND", b"")
    assert len(bomb) < 50_000
    assert "pixels" in refused(client, bomb)


def test_case_20_a_gif_of_endless_frames_is_capped(client: TestClient) -> None:
    from PIL import Image

    held = io.BytesIO()
    frames = [Image.new("P", (1, 1), index % 2) for index in range(3)]
    frames[0].save(held, "GIF", save_all=True, append_images=frames[1:], duration=20, loop=0)
    whole = held.getvalue()
    start = whole.index(b"!\xf9")
    gif = whole[:start] + whole[start:-1] * 40_000 + b";"
    body = {"prompt": "a red ball", "model": "tiny", "video": upload(client, gif), "num_frames": 100_000}
    plan = client.post("/api/v1/plan", json=body).json()["plan"]
    assert plan["num_frames"] < 100  # and no more are decoded, whatever the file holds
    assert "frames" in plan["adjustments"][0]


@pytest.mark.parametrize("content", [b"ffconcat version 1.0\nfile secret.mp4\n", b"#EXTM3U\n/etc/passwd\n"])
def test_case_21_playlists_are_refused_whatever_they_are_called(client: TestClient, content: bytes) -> None:
    answer = client.post("/api/v1/uploads", files={"file": ("clip.mp4", content, "video/mp4")})
    assert answer.status_code == 400
    assert "playlist" in error_of(answer)["message"]
    assert stored(client) == []


def test_case_22_no_file_is_opened_by_what_a_request_calls_it(client: TestClient, store: JobStore) -> None:
    for name in (
        "concat:/etc/passwd|x",
        "http://127.0.0.1/x",
        "/etc/passwd",
        "file:///etc/passwd",
        "..",
        "-i",
        "a\nb",
        "",
    ):
        for body in (
            {"image": name},
            {"video": name},
            {"references": [name]},
            {"keyframes": [{"image": name, "frame": 0}]},
        ):
            answer = client.post("/api/v1/jobs", json={"prompt": "a ball", "model": "tiny-image", **body})
            assert answer.status_code == 400
            assert "no upload" in error_of(answer)["message"]
        loras = {"loras": [{"path": name}], "prompt": "a ball", "model": "tiny"}
        assert client.post("/api/v1/jobs", json=loras).status_code == 400
    for model in ("/etc", "~", ".", "../..", "file:///etc", str(parts_of(client).settings.data)):
        answer = client.post("/api/v1/plan", json={"prompt": "a ball", "model": model})
        assert error_of(answer)["code"] == "unknown_model"
    assert sum(store.counts().values()) == 0


def test_case_24_a_clip_that_claims_the_impossible_is_refused(client: TestClient) -> None:
    import av

    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as made:
        stream = made.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 32, 32
        for _ in range(2):
            made.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        made.mux(stream.encode())
    clip = held.getvalue()
    at = clip.index(b"mp4v") + 4 + 24
    huge = clip[:at] + struct.pack(">HH", 65_535, 65_535) + clip[at + 4 :]
    assert len(huge) < 4_000
    assert refused(client, huge, field="video", model="tiny")


def test_uploads_are_bounded(serve: Serve) -> None:
    client = serve(max_upload_bytes=4_000, max_uploads_bytes=7_000)
    assert client.post("/api/v1/uploads", files={"file": ("a", png(64, 64))}).status_code == 413
    first = upload(client, png())
    upload(client, png())
    full = client.post("/api/v1/uploads", files={"file": ("a", png())})
    assert full.status_code == 413
    assert client.delete(f"/api/v1/uploads/{first}").json() == {"id": first, "deleted": True}
    assert client.get(f"/api/v1/uploads/{first}").status_code == 400
    upload(client, png())
    assert len(stored(client)) == 2


def test_an_upload_must_be_one_file(client: TestClient) -> None:
    for files in ({"other": ("a.png", png())}, {"file": ("a.png", png()), "more": ("b.png", png())}):
        assert client.post("/api/v1/uploads", files=files).status_code == 400
    assert stored(client) == []


def test_what_nobody_came_back_for_is_swept(tmp_path: Path) -> None:
    import os
    import time

    box = UploadBox(tmp_path, max_file_bytes=10_000, max_all_bytes=10_000)
    ids = []
    for _ in range(2):
        incoming = box.start("a.png")
        incoming.write(png())
        ids.append(incoming.finish())
    old = time.time() - KEPT_SECONDS - 1
    os.utime(ids[0].path, (old, old))
    box.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [ids[1].path.name]
