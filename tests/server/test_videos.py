"""/v1/videos: the shape of what comes back, what is understood, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import JobError
from homereel.jobs.store import JobStore
from homereel.server.video_object import Video
from tests.server.conftest import error_of, parts_of, png

FORM = "multipart/form-data; boundary=x"


def create(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/videos", json={"prompt": "a red ball", "model": "tiny", **fields})
    assert answer.status_code == 200, answer.text
    video: dict[str, Any] = answer.json()
    Video.model_validate(video)
    return video


def finish(client: TestClient, video: dict[str, Any], content: bytes = b"not really a clip") -> None:
    """What a worker does at the end."""
    parts = parts_of(client)
    lease = parts.store.claim("a worker")
    assert lease is not None
    assert lease.job.id == video["id"]
    folder = JobFolder(parts.settings.data, lease.job.id)
    folder.make()
    folder.clip.write_bytes(content)
    folder.thumbnail.write_bytes(b"RIFF....WEBP")
    parts.store.complete(lease, {"file": "clip.mp4", "sha256": "ab" * 32, "num_frames": 5, "fps": 8.0})


def test_a_clip_is_queued_with_the_settings_of_its_plan(client: TestClient) -> None:
    video = create(client, seconds="0.6", size="32x48", seed=7)
    assert video["object"] == "video"
    assert (video["status"], video["progress"], video["model"]) == ("queued", 0, "tiny")
    assert (video["size"], video["seconds"]) == ("32x48", "0.625")
    assert video["homereel"]["seed"] == 7
    assert video["error"] is video["remixed_from_video_id"] is video["expires_at"] is None


def test_names_of_other_servers_are_understood(client: TestClient, store: JobStore) -> None:
    video = create(
        client,
        width=48,
        height=32,
        num_frames=9,
        fps=12,
        seed="-1",
        num_inference_steps="2",
        guidance_scale=1.5,
        flow_shift=3,
        negative_prompt="blue",
    )
    request = store.get(video["id"]).request
    wanted = {"width": 48, "height": 32, "num_frames": 9, "fps": 12, "steps": 2, "guidance": 1.5, "shift": 3}
    assert {name: request[name] for name in wanted} == wanted
    assert request["negative_prompt"] == "blue"
    assert request["seed"] >= 0


def test_a_form_is_read_like_json(client: TestClient, store: JobStore) -> None:
    fields = {"prompt": "a red ball", "model": "tiny", "seconds": "0.6", "seed": "5", "num_inference_steps": "2"}
    answer = client.post("/v1/videos", data=fields, files={"nothing": ("", b"")})
    request = store.get(answer.json()["id"]).request
    assert request == {"prompt": "a red ball", "model": "tiny", "seconds": 0.6, "seed": 5, "steps": 2}


def test_what_is_moved_or_not_understood_is_told(client: TestClient) -> None:
    video = create(client, size="33x32", quality="high", n=2)
    notes = video["homereel"]["notes"]
    assert video["size"] == "32x32"
    assert any("width 33" in note and "using 32" in note for note in notes)
    assert any("ignored: quality, n" in note for note in notes)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"size": "banana"}, "size", "width and height"),
        ({"size": "0x32"}, "size", "width and height"),
        ({"size": 32}, "size", "width and height"),
        ({"size": "32x32", "width": 64}, "size", "keep one"),
        ({"size": "9000x32"}, "size", "the nearest that it makes"),
        ({"seconds": "soon"}, "seconds", "a number"),
        ({"seconds": "4", "num_frames": 5}, None, "keep one"),
        ({"steps": 2, "num_inference_steps": 3}, "num_inference_steps", "keep one"),
        ({"seed": 2**32}, "seed", "4294967295"),
        ({"prompt": ""}, "prompt", "describe"),
        ({"prompt": None}, "prompt", "missing"),
        ({"model": "sora-2"}, "model", "there is no model"),
        ({"model": "wan2.1-t2v-14b"}, None, "models pull"),
        ({"input_reference": {"image_url": "data:image/png;base64,$$$"}}, "input_reference", "data URL"),
        ({"input_reference": {"file_id": "/etc/passwd"}}, "input_reference", "no upload"),
        ({"input_reference": 5}, "input_reference", "file_id"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(
    client: TestClient, store: JobStore, fields: dict[str, Any], param: str | None, words: str
) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball", "model": "tiny", **fields})
    error = error_of(answer)
    assert answer.status_code == 400, error
    assert words in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert sum(store.counts().values()) == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b'{"a": NaN}', b'{"a":1,"a":2}', b"[" * 9_000])
def test_a_body_that_is_no_object_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/videos", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error_of(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--y\r\n\r\n--y--",
        b"--x\r\n\r\na prompt\r\n--x--\r\n",
        b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na ball',
        b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--x--\r\n',
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 2 + b"--x--\r\n",
        b'--x\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n\r\n' + png() + b"\r\n--x\r\n",
    ],
)
def test_a_form_that_is_broken_is_refused_and_leaves_nothing(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/videos", content=body, headers={"content-type": FORM})
    assert answer.status_code == 400
    error_of(answer)
    uploads = parts_of(client).settings.data / "uploads"
    assert not uploads.exists() or not list(uploads.iterdir())


def test_a_first_picture_comes_as_file_data_url_or_upload(client: TestClient, store: JobStore) -> None:
    import base64

    fields = {"prompt": "a red ball", "model": "tiny-image"}
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    upload = client.post("/api/v1/uploads", files={"file": ("a.png", png())}).json()["id"]
    answers = [
        client.post("/v1/videos", data=fields, files={"input_reference": ("a.png", png())}),
        client.post("/v1/videos", json={**fields, "input_reference": {"image_url": url}}),
        client.post("/v1/videos", data={**fields, "input_reference[image_url]": url}, files={"none": ("", b"")}),
        client.post("/v1/videos", json={**fields, "input_reference": {"file_id": upload}}),
    ]
    for answer in answers:
        folder = JobFolder(parts_of(client).settings.data, answer.json()["id"])
        (copy,) = folder.inputs.iterdir()
        assert copy.read_bytes() == png()
        assert store.get(folder.id).request["image"] == str(copy)
    left = [path.name for path in (parts_of(client).settings.data / "uploads").iterdir()]
    assert left == [f"{upload}.png"]


def test_the_list_comes_in_pages(client: TestClient) -> None:
    ids = [create(client)["id"] for _ in range(5)]
    first = client.get("/v1/videos", params={"limit": 3}).json()
    assert [video["id"] for video in first["data"]] == ids[:1:-1]
    assert first["has_more"] is True
    rest = client.get("/v1/videos", params={"after": first["last_id"]}).json()
    assert [video["id"] for video in rest["data"]] == ids[1::-1]
    assert rest["has_more"] is False
    oldest = client.get("/v1/videos", params={"order": "asc", "limit": 1}).json()
    assert oldest["first_id"] == oldest["last_id"] == ids[0]
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "many"}, {"order": "up"}):
        assert client.get("/v1/videos", params=query).status_code == 400
    assert client.get("/v1/videos", params={"after": "video_gone"}).status_code == 404


def test_progress_is_that_of_the_steps(client: TestClient, store: JobStore) -> None:
    video = create(client)
    lease = store.claim("a worker")
    assert lease is not None
    store.renew(lease, stage="denoise", steps_done=1, num_steps=3, remaining_seconds=20.0)
    answer = client.get(f"/v1/videos/{video['id']}")
    assert answer.json()["status"] == "in_progress"
    assert answer.json()["progress"] == 33
    assert answer.headers["openai-poll-after-ms"] == "2000"


def test_cancelled_and_failed_end_polling_with_their_cause(client: TestClient, store: JobStore) -> None:
    cancelled, failed = create(client), create(client)
    store.cancel(cancelled["id"])
    lease = store.claim("a worker")
    assert lease is not None
    store.fail(lease, JobError("out_of_memory", "memory ran out"))
    assert client.get(f"/v1/videos/{cancelled['id']}").json()["status"] == "failed"
    assert client.get(f"/v1/videos/{cancelled['id']}").json()["error"]["code"] == "cancelled"
    error = client.get(f"/v1/videos/{failed['id']}").json()["error"]
    assert error == {"code": "out_of_memory", "message": "memory ran out"}
    assert client.get(f"/v1/videos/{failed['id']}/content").status_code == 404


def test_a_paused_clip_is_still_waited_for(client: TestClient, store: JobStore) -> None:
    video = create(client)
    store.pause(video["id"])
    shown = client.get(f"/v1/videos/{video['id']}").json()
    assert shown["status"] == "queued"
    assert any("paused" in note for note in shown["homereel"]["notes"])


def test_the_clip_is_handed_out_by_ranges_with_a_tag(client: TestClient) -> None:
    video = create(client)
    path = f"/v1/videos/{video['id']}/content"
    assert error_of(client.get(path))["code"] == "not_ready"
    finish(client, video, b"0123456789")
    whole = client.get(path)
    assert whole.content == b"0123456789"
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-disposition"] == f'attachment; filename="{video["id"]}.mp4"'
    etag = whole.headers["etag"]
    part = client.get(path, headers={"range": "bytes=2-4", "if-range": etag})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert client.get(path, headers={"range": "bytes=2-4", "if-range": '"another"'}).content == b"0123456789"
    assert client.get(path, headers={"range": "bytes=99-"}).status_code == 416
    assert client.get(path, headers={"if-none-match": etag}).status_code == 304
    assert client.get(path, params={"variant": "thumbnail"}).headers["content-type"] == "image/webp"
    assert client.get(path, params={"variant": "spritesheet"}).status_code == 404  # the worker above makes none
    assert client.get(path, params={"variant": "script"}).status_code == 400


def test_a_remix_keeps_everything_but_the_prompt(client: TestClient, store: JobStore) -> None:
    fields = {"prompt": "a red ball", "model": "tiny-image", "seed": "9", "size": "32x48", "num_inference_steps": "2"}
    parent = client.post("/v1/videos", data=fields, files={"input_reference": ("a.png", png())}).json()
    remix = client.post(f"/v1/videos/{parent['id']}/remix", json={"prompt": "a blue ball"}).json()
    old, new = store.get(parent["id"]), store.get(remix["id"])
    assert remix["remixed_from_video_id"] == parent["id"]
    assert {**old.request, "prompt": "a blue ball", "image": new.request["image"]} == new.request
    assert new.request["image"] != old.request["image"]
    client.delete(f"/v1/videos/{parent['id']}")
    assert (parts_of(client).settings.data / "jobs" / remix["id"] / "inputs").is_dir()
    changes = {"prompt": "a ball", "seed": 10, "seconds": "1"}
    again = store.get(client.post(f"/v1/videos/{remix['id']}/remix", json=changes).json()["id"])
    assert (again.request["seed"], again.request["seconds"]) == (10, 1)
    assert client.post("/v1/videos/video_gone/remix", json={"prompt": "a ball"}).status_code == 404


def test_edit_and_extend_say_which_models_can(client: TestClient) -> None:
    video = create(client)
    body = {"prompt": "a blue ball", "video": {"id": video["id"]}, "seconds": "2"}
    assert error_of(client.post("/v1/videos/edits", json=body))["code"] == "wrong_state"
    finish(client, video)
    extend = error_of(client.post("/v1/videos/extensions", json=body))
    assert extend["code"] == "unsupported"
    assert "vace" in extend["message"]
    for wrong in ({}, {"id": "video_gone"}, 7, {"id": ""}):
        assert client.post("/v1/videos/edits", json={**body, "video": wrong}).status_code in (400, 404)


def test_a_clip_is_deleted_with_its_files(client: TestClient, store: JobStore) -> None:
    video = create(client)
    finish(client, video)
    folder = JobFolder(parts_of(client).settings.data, video["id"]).path
    assert folder.is_dir()
    answer = client.delete(f"/v1/videos/{video['id']}").json()
    assert answer == {"id": video["id"], "object": "video.deleted", "deleted": True}
    assert not folder.exists()
    assert client.get(f"/v1/videos/{video['id']}").status_code == 404
    assert client.delete(f"/v1/videos/{video['id']}").status_code == 404


def test_deleting_a_clip_in_work_cancels_it(
    client: TestClient, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homereel.server.videos._PATIENCE_SECONDS", 0.0)
    video = create(client)
    lease = store.claim("a worker")
    assert lease is not None
    assert client.delete(f"/v1/videos/{video['id']}").json()["deleted"] is False
    assert store.get(video["id"]).wanted == "cancel"
    store.give_back(lease, "cancelled")
    assert client.delete(f"/v1/videos/{video['id']}").json()["deleted"] is True


def test_models_are_listed_as_openai_does(client: TestClient) -> None:
    models = client.get("/v1/models").json()
    assert models["object"] == "list"
    assert models["data"][0]["id"] == "pocket"
    assert {"tiny", "tiny-image"} <= {model["id"] for model in models["data"]}
    assert client.get("/v1/models/tiny").json()["object"] == "model"
    assert error_of(client.get("/v1/models/sora-2"))["param"] == "model"
