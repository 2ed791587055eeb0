"""A job that names another job's clip waits for it, and is given it as a file; one whose parent has none says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homereel import media
from homereel.core.errors import InvalidRequest, UnreadableMedia
from homereel.core.request import Request
from homereel.jobs.blobs import JobFolder
from homereel.jobs.parent_clip import LAST_FRAME, with_parent_clips
from homereel.jobs.records import Job, JobError
from homereel.jobs.store import JobStore
from homereel.jobs.work import Workplace
from homereel.workflows import Made, extend, job_place, refine
from tests.jobs.stand_in import NoModel, make

PROMPT = "a red ball bounces on a green floor"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[tuple[JobStore, Workplace]]:
    with JobStore.in_folder(tmp_path) as store:
        yield store, Workplace(store, tmp_path, warm=NoModel(), make=make, beat_seconds=0.02)


def work(store: JobStore, place: Workplace) -> Job:
    lease = store.claim("one")
    assert lease is not None
    done = place.work(lease)
    assert done is not None
    return done


def follow(store: JobStore, parent: Job, **changes: Any) -> Job:
    """A job that refines the clip of another."""
    made = Made.of_job(parent.id, request={"prompt": PROMPT, "model": "pocket", **changes}, plan=parent.plan)
    step = refine(made)
    return store.submit(step.fields(), parent=step.parent, relation=step.relation)


def resolved(store: JobStore, data: Path, job: Job) -> Request:
    folder = JobFolder(data, job.id)
    folder.make()
    return with_parent_clips(Request.parse(job.request), store=store, data=data, folder=folder)


def test_a_job_waits_for_the_clip_that_it_comes_from(store: JobStore) -> None:
    parent = store.submit({"prompt": PROMPT})
    child = follow(store, parent)
    other = store.submit({"prompt": PROMPT})
    first = store.claim("one")
    assert first is not None
    assert first.job.id == parent.id
    second = store.claim("two")
    assert second is not None
    assert second.job.id == other.id, "the child's parent is not done"
    assert store.claim("three") is None
    store.complete(first, {})
    third = store.claim("three")
    assert third is not None
    assert third.job.id == child.id


def test_a_job_that_is_only_linked_does_not_wait(store: JobStore) -> None:
    """A remix takes words and settings, not the clip."""
    parent = store.submit({"prompt": PROMPT})
    store.submit({"prompt": f'"job:{parent.id}" says nothing'}, parent=parent.id, relation="remix", priority=5)
    first = store.claim("one")
    assert first is not None
    assert first.job.parent == parent.id


def test_the_worker_finds_the_clip(here: tuple[JobStore, Workplace]) -> None:
    store, place = here
    parent = store.submit({"prompt": PROMPT})
    child = follow(store, parent)
    assert work(store, place).status == "completed"
    clip = JobFolder(place.data, parent.id).clip
    assert resolved(store, place.data, child).refine == clip
    assert work(store, place).id == child.id


def test_a_parent_that_failed_is_told_and_not_waited_for(here: tuple[JobStore, Workplace]) -> None:
    store, place = here
    parent = store.submit({"prompt": PROMPT})
    follow(store, parent)
    lease = store.claim("one")
    assert lease is not None
    store.fail(lease, JobError("x", "y"))
    done = work(store, place)
    assert done.status == "failed"
    assert done.error is not None
    assert "its job is failed" in done.error.message


def test_a_parent_that_was_deleted_is_told(here: tuple[JobStore, Workplace]) -> None:
    store, place = here
    parent = store.submit({"prompt": PROMPT})
    work(store, place)
    child = follow(store, parent)
    store.delete(parent.id)
    with pytest.raises(InvalidRequest, match="was deleted"):
        resolved(store, place.data, child)


def test_a_link_in_the_place_of_a_clip_is_not_followed(here: tuple[JobStore, Workplace], tmp_path: Path) -> None:
    store, place = here
    parent = store.submit({"prompt": PROMPT})
    work(store, place)
    clip = JobFolder(place.data, parent.id).clip
    clip.rename(tmp_path / "elsewhere.mp4")
    clip.symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(InvalidRequest, match="was not made"):
        resolved(store, place.data, follow(store, parent))


def test_what_is_no_id_reaches_no_folder(here: tuple[JobStore, Workplace]) -> None:
    store, place = here
    child = store.submit({"prompt": PROMPT, "refine": "job:../../etc"})
    with pytest.raises(InvalidRequest, match="was deleted"):
        resolved(store, place.data, child)


def test_a_picture_is_the_last_frame_of_the_clip(here: tuple[JobStore, Workplace]) -> None:
    store, place = here
    parent = store.submit({"prompt": PROMPT})
    work(store, place)
    child = store.submit({"prompt": PROMPT, "image": str(job_place(parent.id))}, parent=parent.id)
    picture = resolved(store, place.data, child).image
    assert picture == JobFolder(place.data, child.id).path / LAST_FRAME
    last = media.read_clip(JobFolder(place.data, parent.id).clip).frames[-1]
    assert np.array_equal(media.read_image(picture), last)


def test_an_extension_of_a_job_is_a_request_that_a_store_keeps(store: JobStore) -> None:
    parent = store.submit({"prompt": PROMPT})
    settled = {"model": "pocket", "num_frames": 33, "width": 96, "height": 96, "seed": 1}
    step = extend(Made.of_job(parent.id, request=parent.request, plan=settled), num_frames=16)
    child = store.submit(step.fields(), parent=step.parent, relation=step.relation)
    assert child.relation == "extension"
    assert Request.parse(child.request) == step.request
    assert Request.parse(child.request).num_frames == 49


def test_a_clip_that_is_no_media_is_told(tmp_path: Path) -> None:
    from homereel.workflows.film import last_frame

    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(UnreadableMedia):
        last_frame(tmp_path / "clip.mp4")
