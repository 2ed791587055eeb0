"""Submitting, finding, listing, ordering, and what users ask of jobs."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest, JobsError, KeyReused, UnknownJob, WrongState
from homereel.core.request import Request
from homereel.jobs.records import STATUSES, Job, JobError, new_job_id
from homereel.jobs.store import JobStore
from tests.jobs.conftest import REQUEST, Submit

CRUEL = "a ball \0 \ud800 \u202e \U0001f600 ' \" ; DROP TABLE jobs; --"


def ids(jobs: tuple[Job, ...]) -> list[str]:
    return [job.id for job in jobs]


def test_a_job_comes_back_as_it_was_told(store: JobStore) -> None:
    parent = store.submit(REQUEST)
    request = Request(prompt="a cube", image=Path("/a/b.png"), seed=3).model_dump()
    job = store.submit(
        request,
        model="pocket",
        priority=-3,
        parent=parent.id,
        relation="remix",
        extra={"seconds": "2", "deep": [1, {"a": None}]},
        max_attempts=5,
    )
    assert re.fullmatch(r"video_[0-9a-f]{32}", job.id)
    assert (job.status, job.wanted, job.attempts, job.progress, job.is_over) == ("queued", "run", 0, 0, False)
    assert (job.model, job.priority, job.max_attempts) == ("pocket", -3, 5)
    assert (job.parent, job.relation, job.extra) == (parent.id, "remix", {"seconds": "2", "deep": [1, {"a": None}]})
    assert Request.parse(job.request) == Request.parse(request)
    assert store.get(job.id) == job
    assert job.as_dict()["progress"] == 0


def test_text_of_any_kind_is_kept(store: JobStore) -> None:
    job = store.submit({"prompt": CRUEL}, model=CRUEL, extra={CRUEL: CRUEL})
    assert store.get(job.id).request["prompt"] == CRUEL
    assert store.get(job.id).extra == {CRUEL: CRUEL}
    assert "\0" not in job.model


def test_what_cannot_be_kept_is_refused(store: JobStore) -> None:
    for bad in ({"priority": 10**12}, {"max_attempts": 0}, {"job_id": "../x"}, {"idempotency_key": ""}):
        with pytest.raises(InvalidRequest):
            store.submit(REQUEST, **bad)
    with pytest.raises(InvalidRequest, match="printable"):
        store.submit(REQUEST, idempotency_key="a\nb")
    with pytest.raises(UnknownJob):
        store.submit(REQUEST, parent=new_job_id())
    with pytest.raises(TypeError):
        store.submit({"prompt": {1}})
    with pytest.raises(ValueError, match="JSON"):
        store.submit({"prompt": float("nan")})
    assert store.list().jobs == ()
    assert store.last_event() == 0


def test_an_id_may_be_given_once(store: JobStore) -> None:
    job_id = new_job_id()
    assert store.submit(REQUEST, job_id=job_id).id == job_id
    with pytest.raises(JobsError, match="already"):
        store.submit(REQUEST, job_id=job_id)


@pytest.mark.parametrize("text", ["", "video_", "video_" + "g" * 32, "x\0y", "\ud800", "../../etc", "v" * 10_000, "%"])
def test_what_is_no_id_is_unknown(store: JobStore, text: str) -> None:
    for look in (store.get, store.cancel, store.delete, store.find):
        with pytest.raises(UnknownJob, match="no job"):
            look(text)


def test_case_30_the_same_idempotency_key_twice_is_one_job(store: JobStore) -> None:
    first = store.submit(REQUEST, idempotency_key="key 1")
    assert store.submit(dict(reversed(REQUEST.items())), idempotency_key="key 1").id == first.id
    assert store.submit(REQUEST).id != first.id
    with pytest.raises(KeyReused, match=first.id):
        store.submit({"prompt": "another"}, idempotency_key="key 1")
    with pytest.raises(KeyReused):
        store.submit(REQUEST, idempotency_key="key 1", parent=first.id, relation="edit")
    assert len(store.list().jobs) == 2
    uploaded = store.submit({"prompt": "a", "image": "/random/1"}, idempotency_key="k", same="a, sha256 of the image")
    again = store.submit({"prompt": "a", "image": "/random/2"}, idempotency_key="k", same="a, sha256 of the image")
    assert again == uploaded
    store.cancel(uploaded.id)
    store.delete(uploaded.id)
    assert store.submit(REQUEST, idempotency_key="k").id != uploaded.id


def test_case_30_also_when_both_come_at_once(store: JobStore) -> None:
    got: list[str] = []
    start = threading.Barrier(4)

    def one() -> None:
        start.wait()
        got.append(store.submit(REQUEST, idempotency_key="k").id)

    run_threads([one] * 4)
    assert len(got) == 4
    assert len(set(got)) == 1
    assert store.counts()["queued"] == 1


def test_pages_go_through_all_in_order(store: JobStore, submit: Submit) -> None:
    made = [submit().id for _ in range(7)]
    seen: list[str] = []
    after = None
    while True:
        page = store.list(limit=3, after=after)
        seen += ids(page.jobs)
        if not page.has_more:
            break
        after = seen[-1]
    assert seen == made[::-1]
    assert ids(store.list(limit=2, after=made[2], newest_first=False).jobs) == made[3:5]
    store.cancel(made[3])
    assert ids(store.list(status="cancelled").jobs) == [made[3]]
    assert store.counts() == {**dict.fromkeys(STATUSES, 0), "queued": 6, "cancelled": 1}
    with pytest.raises(UnknownJob):
        store.list(after=new_job_id())


def test_find_by_the_end_of_an_id(store: JobStore) -> None:
    first = store.submit(REQUEST, job_id="video_" + "0" * 24 + "1234abcd")
    store.submit(REQUEST, job_id="video_" + "0" * 24 + "5678abcd")
    assert store.find("1234abcd").id == store.find("1234ABCD").id == store.find(first.id).id == first.id
    with pytest.raises(UnknownJob, match="several"):
        store.find("abcd")
    for ending in ("bcd", "ffff", "____", "%%%%"):
        with pytest.raises(UnknownJob):
            store.find(ending)


def test_the_queue_is_ordered_by_priority_then_place(store: JobStore, submit: Submit) -> None:
    low, high, first, second = submit(priority=-1).id, submit(priority=5).id, submit().id, submit().id
    assert ids(store.queue()) == [high, first, second, low]
    store.set_priority(low, 5)
    assert ids(store.queue()) == [high, low, first, second]
    store.set_priority(high, 0)
    assert ids(store.queue(limit=3)) == [low, first, second]
    with pytest.raises(InvalidRequest):
        store.set_priority(low, 10**9)


def test_move(store: JobStore, submit: Submit) -> None:
    a, b, c, d = (submit().id for _ in range(4))
    store.move(d, before=b)
    assert ids(store.queue()) == [a, d, b, c]
    store.move(a, after=b)
    assert ids(store.queue()) == [d, b, a, c]
    store.move(c, to="first")
    store.move(d, to="last")
    assert ids(store.queue()) == [c, b, a, d]
    later = submit().id
    assert ids(store.queue())[-1] == later
    store.move(a, before=a)
    assert ids(store.queue()) == [c, b, a, d, later]
    important = submit(priority=9).id
    assert store.move(a, after=important).priority == 9
    assert ids(store.queue()) == [important, a, c, b, d, later]
    store.pause(b)
    store.move(b, to="first")
    store.resume(b)
    assert ids(store.queue())[0] == b


def test_move_never_runs_out_of_room(store: JobStore, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homereel.jobs.places._LEAST_ROOM", 0.2)
    order = [submit().id for _ in range(3)]
    for _ in range(6):
        store.move(order[2], before=order[1])
        order = [order[0], order[2], order[1]]
        assert ids(store.queue()) == order
        assert all(later.place - earlier.place >= 0.1 for earlier, later in itertools.pairwise(store.queue()))


def test_move_refuses_what_has_no_place(store: JobStore, submit: Submit) -> None:
    a, b = submit().id, submit().id
    for where in ({}, {"before": b, "after": b}, {"before": b, "to": "first"}):
        with pytest.raises(InvalidRequest, match="say where"):
            store.move(a, **where)  # type: ignore[arg-type]
    assert store.move(a, before=a).id == a
    with pytest.raises(UnknownJob):
        store.move(a, before=new_job_id())
    store.cancel(b)
    with pytest.raises(WrongState, match="cancelled"):
        store.move(a, after=b)
    with pytest.raises(WrongState):
        store.set_priority(b, 1)
    assert ids(store.queue()) == [a]


def test_case_33_a_cancelled_queued_job_never_starts(store: JobStore, submit: Submit) -> None:
    job = submit()
    assert store.cancel(job.id).status == "cancelled"
    assert store.cancel(job.id).completed_at is not None
    assert store.claim("w") is None


def test_pause_and_resume_of_a_queued_job_keep_its_place(store: JobStore, submit: Submit) -> None:
    a, b = submit().id, submit().id
    assert store.pause(a).status == store.pause(a).status == "paused"
    assert ids(store.queue()) == [b]
    assert store.resume(a).status == store.resume(a).status == "queued"
    assert ids(store.queue()) == [a, b]
    store.pause(b)
    assert store.cancel(b).status == "cancelled"


def test_retry_begins_anew_behind_the_others(store: JobStore, submit: Submit) -> None:
    job, other = submit(max_attempts=1), submit()
    lease = store.claim("w")
    assert lease is not None
    store.renew(lease, steps_done=3, num_steps=4)
    assert store.fail(lease, JobError("oops", "it broke")).error == JobError("oops", "it broke")
    again = store.retry(job.id)
    assert (again.status, again.attempts, again.error, again.completed_at, again.steps_done) == (
        *("queued", 0, None, None),
        0,
    )
    assert ids(store.queue()) == [other.id, job.id]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "running"])
def test_what_does_not_go_with_a_state_is_refused(store: JobStore, submit: Submit, status: str) -> None:
    job = submit()
    lease = store.claim("w")
    assert lease is not None
    if status == "completed":
        store.complete(lease, {})
    elif status == "failed":
        store.fail(lease, JobError("a", "b"))
    elif status == "cancelled":
        store.give_back(lease, "cancelled")
    wrong: dict[str, list[Callable[[str], Any]]] = {
        "completed": [store.pause, store.resume, store.cancel, store.retry],
        "failed": [store.pause, store.resume, store.cancel],
        "cancelled": [store.pause, store.resume],
        "running": [store.retry, store.delete],
    }
    for act in wrong[status]:
        with pytest.raises(WrongState, match=f"cannot .*which is {status}"):
            act(job.id)
    assert store.get(job.id).status == status


def test_delete_forgets_a_job_but_not_its_children(store: JobStore, submit: Submit) -> None:
    job = submit()
    child = submit(parent=job.id, relation="remix")
    assert store.delete(job.id) == job
    with pytest.raises(UnknownJob):
        store.get(job.id)
    assert store.get(child.id).parent == job.id
    assert [event.kind for event in store.events(job_id=job.id)] == ["deleted"]


def test_events_tell_all_that_happened_in_order(store: JobStore, submit: Submit) -> None:
    job = submit()
    lease = store.claim("w")
    assert lease is not None
    for step in range(5):
        store.renew(lease, stage="denoise", steps_done=step, num_steps=5)
        store.renew(lease)
    before = store.last_event()
    store.complete(lease, {})
    told = store.events()
    assert [event.kind for event in told] == ["submitted", "started", "progress", "completed"]
    assert [event.number for event in told] == sorted(event.number for event in told)
    assert told[2].data["progress"] == 80
    assert {event.job_id for event in told} == {job.id}
    assert [event.kind for event in store.events(before)] == ["completed"]
    assert store.events(store.last_event()) == ()
    assert len(store.events(limit=2)) == 2


def test_events_are_bounded(store: JobStore, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homereel.jobs.rows._KEPT_EVENTS", 10)
    monkeypatch.setattr("homereel.jobs.rows._TRIM_EVERY", 5)
    job = submit()
    for _ in range(12):
        store.pause(job.id)
        store.resume(job.id)
    assert len(store.events()) <= 15
    assert store.last_event() == 25


def test_one_store_serves_many_threads(store: JobStore) -> None:
    def work() -> None:
        for _ in range(3):
            job = store.submit(REQUEST)
            store.pause(job.id)
            store.list()
            store.resume(job.id)

    run_threads([work] * 4)
    assert store.counts()["queued"] == 12
    places = [job.place for job in store.queue()]
    assert len(set(places)) == 12


def run_threads(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
