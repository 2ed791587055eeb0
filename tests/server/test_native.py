"""/api/v1: the whole request, planning, the queue's verbs; cases 30, 33 to 35, 39, 45, 47, 48 and 50."""

from __future__ import annotations

import dataclasses
import errno
import functools
import gc
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from homereel.core.request import Request
from homereel.jobs.blobs import JobFolder
from homereel.jobs.store import JobStore
from homereel.planning.machine import probe_machine
from homereel.server.job_object import JobObject
from tests.server.conftest import Serve, error_of, parts_of, png

JOB = {"prompt": "a red ball", "model": "tiny"}


def submit(client: TestClient, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
    headers = {} if key is None else {"idempotency-key": key}
    answer = client.post("/api/v1/jobs", json={**JOB, **fields}, headers=headers)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    JobObject.model_validate(job)
    assert answer.headers["location"] == job["links"]["self"]
    return job


def test_a_request_is_planned_and_its_decisions_are_kept(client: TestClient, store: JobStore) -> None:
    job = submit(client, width=33, priority=3)
    kept = store.get(job["id"])
    assert kept.request == {"prompt": "a red ball", "model": "tiny", "width": 33, "seed": job["plan"]["seed"]}
    assert (kept.model, kept.priority) == ("tiny", 3)
    assert job["plan"]["width"] == 32
    assert any("using 32" in note for note in job["notes"])
    assert Request.parse(kept.request).seed == job["plan"]["seed"]


def test_a_plan_queues_nothing(client: TestClient, store: JobStore) -> None:
    plan = client.post("/api/v1/plan", json={**JOB, "seconds": 0.6, "priority": 1}).json()["plan"]
    assert (plan["num_frames"], plan["steps"]) == (5, 3)
    assert sum(store.counts().values()) == 0


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"widht": 32}, "widht", "did you mean 'width'?"),
        ({"steps": 0}, "steps", "at least 1"),
        ({"prompt": 5}, "prompt", "text"),
        ({"model": "tini"}, "model", "did you mean tiny or tiny-image?"),
        ({"image": "file_" + "0" * 32}, "image", "no upload"),
        ({"image": ["a"]}, "image", "the id of its upload"),
        ({"keyframes": "x"}, "keyframes", "not allowed"),
        ({"video": "video_" + "0" * 32}, None, "no job"),
        ({"priority": "high"}, "priority", "whole number"),
        ({"priority": 10**30}, "priority", "a priority is"),
        ({"passes": ["warp"]}, "passes", "no pass"),
        ({"webhook": "https://example.com/hook"}, "webhook", "--allow-webhooks"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(
    client: TestClient, store: JobStore, fields: dict[str, Any], param: str | None, words: str
) -> None:
    answer = client.post("/api/v1/jobs", json={**JOB, **fields})
    error = error_of(answer)
    assert answer.status_code in (400, 404), error
    assert words in error["message"]
    assert error["param"] == param
    assert sum(store.counts().values()) == 0
    assert not list((parts_of(client).settings.data / "jobs").glob("*"))


def test_case_30_one_key_is_one_job(client: TestClient, store: JobStore) -> None:
    first = submit(client, key="a-key")
    assert submit(client, key="a-key")["id"] == first["id"]
    other = client.post("/api/v1/jobs", json={**JOB, "seed": 1}, headers={"idempotency-key": "a-key"})
    assert other.status_code == 409
    assert error_of(other)["code"] == "idempotency_key_reused"
    assert client.post("/api/v1/jobs", json=JOB, headers={"idempotency-key": ""}).status_code == 400
    assert store.counts()["queued"] == 1


def test_case_30_the_same_file_brought_twice_is_the_same_wish(client: TestClient, store: JobStore) -> None:
    def ask(picture: bytes) -> Any:
        return client.post(
            "/v1/videos",
            data={"prompt": "a red ball", "model": "tiny-image"},
            files={"input_reference": ("a.png", picture)},
            headers={"idempotency-key": "another"},
        )

    assert ask(png()).json()["id"] == ask(png()).json()["id"]
    assert ask(png(64, 64)).status_code == 409
    assert store.counts()["queued"] == 1
    assert len(list((parts_of(client).settings.data / "jobs").iterdir())) == 1


def test_case_33_a_cancelled_job_never_starts(client: TestClient, store: JobStore) -> None:
    job = submit(client)
    assert client.post(f"/api/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
    assert store.claim("a worker") is None
    assert error_of(client.post(f"/api/v1/jobs/{job['id']}/pause"))["code"] == "wrong_state"


def test_case_34_cancelling_a_job_in_work_reaches_its_worker(client: TestClient, store: JobStore) -> None:
    job = submit(client)
    lease = store.claim("a worker")
    assert lease is not None
    assert client.post(f"/api/v1/jobs/{job['id']}/cancel").json()["wanted"] == "cancel"
    assert store.renew(lease, steps_done=1, num_steps=3) == "cancel"
    store.give_back(lease, "cancelled")
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "cancelled"
    assert client.get(f"/v1/videos/{job['id']}/content").status_code == 404


def test_case_35_cancelling_what_is_just_done_leaves_one_end(client: TestClient, store: JobStore) -> None:
    job = submit(client)
    lease = store.claim("a worker")
    assert lease is not None
    store.complete(lease, {"file": "clip.mp4"})
    answer = client.post(f"/api/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "wrong_state")
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "completed"


def test_case_39_an_upload_that_the_disk_has_no_room_for_is_told_and_removed(
    client: TestClient, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, _piece: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            """Nothing is open."""

    opened = os.fdopen

    def fdopen(number: int, *words: Any, **options: Any) -> Any:
        opened(number, *words, **options).close()
        return Full()

    with monkeypatch.context() as patch:
        patch.setattr("homereel.server.uploads.os.fdopen", fdopen)
        answer = client.post("/api/v1/uploads", files={"file": ("a.png", png())})
    assert answer.status_code == 507
    assert "No space left" in error_of(answer)["message"]
    assert not list((data / "uploads").iterdir())


def test_case_45_a_locked_database_is_told_and_nothing_hangs(
    serve: Serve, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = functools.partial(JobStore.in_folder, patience_seconds=0.1)
    monkeypatch.setattr("homereel.server.app._open_store", lambda settings: impatient(settings.data))
    client = serve()
    job = submit(client)
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = client.post(f"/api/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert error_of(answer)["type"] == "server_error"
        assert client.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "queued"  # readers go on
        other.rollback()
    assert client.post(f"/api/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell open handles")
def test_case_50_handles_stay_flat(client: TestClient) -> None:
    def use(times: int) -> int:
        for _ in range(times):
            submit(client)
            client.get("/v1/videos")
            client.get("/api/v1/queue")
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = use(5)
    assert use(30) <= before + 1


def test_jobs_are_paused_resumed_retried_moved_and_deleted(client: TestClient, store: JobStore) -> None:
    first, second, third = (submit(client)["id"] for _ in range(3))

    def queue() -> list[str]:
        return [job["id"] for job in client.get("/api/v1/queue").json()["data"]]

    def post(job: str, verb: str, body: dict[str, Any] | None = None) -> int:
        return client.post(f"/api/v1/jobs/{job}/{verb}", json=body).status_code

    assert queue() == [first, second, third]
    assert post(third, "move", {"before": first}) == 200
    assert queue() == [third, first, second]
    assert post(third, "move", {"after": second}) == post(first, "move", {"to": "last"}) == 200
    assert queue() == [second, third, first]
    assert post(first, "priority", {"priority": 5}) == 200
    assert queue() == [first, second, third]
    assert post(second, "pause") == 200
    assert queue() == [first, third]
    assert post(second, "resume") == 200
    assert post(third, "cancel") == post(third, "retry") == 200
    assert client.delete(f"/api/v1/jobs/{third}").json()["deleted"] is True
    assert queue() == [first, second]
    for body in ({}, {"to": "middle"}, {"before": first, "after": first}, {"before": 7}, {"above": first}):
        assert post(second, "move", body) == 400
    for body in ({}, {"priority": "1"}, {"priority": True}, {"priority": 1, "more": 2}):
        assert post(second, "priority", body) == 400
    assert post(third, "cancel") == 404
    assert client.get("/api/v1/status").json()["counts"]["queued"] == 2


def test_the_list_can_be_of_one_status(client: TestClient, store: JobStore) -> None:
    jobs = [submit(client)["id"] for _ in range(3)]
    store.pause(jobs[1])
    paused = client.get("/api/v1/jobs", params={"status": "paused"}).json()
    assert [job["id"] for job in paused["data"]] == [jobs[1]]
    assert client.get("/api/v1/jobs", params={"status": "asleep"}).status_code == 400


def test_a_job_shows_no_path_of_this_machine(client: TestClient, store: JobStore) -> None:
    upload = client.post("/api/v1/uploads", files={"file": ("a.png", png())}).json()["id"]
    job = submit(client, model="tiny-image", image=upload)
    assert str(parts_of(client).settings.data) not in client.get(f"/api/v1/jobs/{job['id']}").text
    assert Path(str(store.get(job["id"]).request["image"])).is_file()


def test_a_preview_is_there_while_a_job_is_in_work(client: TestClient) -> None:
    job = submit(client)
    path = f"/api/v1/jobs/{job['id']}/preview"
    assert error_of(client.get(path))["code"] == "not_ready"
    folder = JobFolder(parts_of(client).settings.data, job["id"])
    folder.make()
    folder.preview.write_bytes(b"RIFF....WEBP")
    assert client.get(path).headers["content-type"] == "image/webp"


def test_case_47_offline_nothing_is_fetched_and_nobody_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(offline=True, allow_urls=True, allow_webhooks=True)
    monkeypatch.setenv("HOMEREEL_OFFLINE", "1")

    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was asked for")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, no_socket)
    submit(client)
    reference = {"image_url": "https://example.com/a.png"}
    answer = client.post("/v1/videos", json={**JOB, "input_reference": reference})
    assert "offline" in error_of(answer)["message"]
    hook = client.post("/api/v1/jobs", json={**JOB, "webhook": "https://example.com/hook"})
    assert "offline" in error_of(hook)["message"]


def test_case_48_what_needs_more_memory_than_there_is_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(probe_machine(), ram_bytes=400 * 2**20)
    monkeypatch.setattr("homereel.server.plans_here._machine", lambda: small)
    answer = client.post("/api/v1/jobs", json=JOB)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "unsupported"
    assert "of memory at least, and there are 0.4; " in error_of(answer)["message"]


def test_the_schema_is_the_request_with_ids_for_files(client: TestClient) -> None:
    schema = client.get("/api/v1/schema").json()
    assert set(Request.model_fields) | {"priority", "webhook"} == set(schema["properties"])
    assert "$ref" not in str(schema)
    assert "path" not in [each.get("format") for each in schema["properties"]["image"]["anyOf"]]


def test_the_page_of_what_there_is_loads_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/docs", "/docs.js", "/docs.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "://" not in answer.text
        assert "'unsafe" not in answer.headers["content-security-policy"]
    described = client.get("/openapi.json").json()["paths"]
    assert {"/v1/videos", "/api/v1/jobs", "/api/v1/events"} <= set(described)
