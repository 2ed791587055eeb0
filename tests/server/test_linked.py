"""Requests that name another job's clip: linked to it, kept by its id, and no way to any other file."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from homereel.jobs.store import JobStore
from homereel.server.attachments import FILE_FIELDS, INNER_FIELDS, LIST_FIELD
from tests.server.test_videos import finish

JOB = {"prompt": "a red ball", "model": "tiny"}


def submit(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/jobs", json={**JOB, **fields})
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_a_clip_may_be_refined_before_it_is_made(client: TestClient, store: JobStore) -> None:
    parent = submit(client)
    child = submit(client, refine=parent["id"], strength=0.5, width=48, height=48)
    kept = store.get(child["id"])
    assert kept.request["refine"] == f"job:{parent['id']}"
    assert (kept.parent, kept.relation) == (parent["id"], "refine")
    assert child["plan"]["strength"] == 0.5


def test_a_clip_may_be_gone_on_from(client: TestClient, store: JobStore) -> None:
    parent = submit(client, model="tiny-image")
    child = submit(client, model="tiny-image", extend=parent["id"], extend_from=5, num_frames=9)
    assert store.get(child["id"]).relation == "extension"
    assert child["plan"]["extend_from"] == 5


def test_a_remix_of_a_refined_clip_starts_from_the_same(client: TestClient, store: JobStore) -> None:
    parent = submit(client)
    child = submit(client, refine=parent["id"], strength=0.5)
    answer = client.post(f"/v1/videos/{child['id']}/remix", json={"prompt": "a blue ball"})
    assert answer.status_code == 200, answer.text
    assert store.get(answer.json()["id"]).request["refine"] == f"job:{parent['id']}"


def test_openais_extension_goes_on_from_the_latents_where_the_model_can(client: TestClient, store: JobStore) -> None:
    video = client.post("/v1/videos", json={"prompt": "a red ball", "model": "tiny-image", "seed": 3}).json()
    finish(client, video)
    body = {"prompt": "a blue ball", "video": {"id": video["id"]}, "seconds": "1"}
    answer = client.post("/v1/videos/extensions", json=body)
    assert answer.status_code == 200, answer.text
    job = store.get(answer.json()["id"])
    assert (job.parent, job.relation) == (video["id"], "extension")
    assert job.request["extend"] == f"job:{video['id']}"
    assert (job.request["prompt"], job.request["extend_from"], job.request["num_frames"]) == ("a blue ball", 5, 13)


@pytest.mark.parametrize("field", ["refine", "extend"])
@pytest.mark.parametrize("value", ["/etc/passwd", "job:../../etc", "clip.mp4", "video_" + "0" * 32, 5, ["a"]])
def test_nothing_but_a_job_or_an_upload_can_be_named(
    client: TestClient, store: JobStore, field: str, value: object
) -> None:
    answer = client.post("/api/v1/jobs", json={**JOB, field: value})
    assert 400 <= answer.status_code < 500
    assert sum(store.counts().values()) == 0


@pytest.mark.parametrize(
    "fields",
    [{name: "/etc/passwd"} for name in FILE_FIELDS]
    + [{LIST_FIELD: ["/etc/passwd"]}]
    + [{name: [{inner: "/etc/passwd"}]} for name, inner in INNER_FIELDS.items()],
    ids=lambda fields: next(iter(fields)),
)
def test_no_path_of_this_machine_is_taken_for_a_file(
    client: TestClient, store: JobStore, fields: dict[str, Any]
) -> None:
    answer = client.post("/api/v1/jobs", json={**JOB, **fields})
    assert answer.status_code == 400
    assert "no upload" in answer.json()["error"]["message"]
    assert sum(store.counts().values()) == 0
