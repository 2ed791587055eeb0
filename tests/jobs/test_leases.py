"""Claims, what a holder may do, what becomes of a holder that is gone, and races with what users ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from homereel.core.errors import LeaseLost, StoreUnavailable, WrongState
from homereel.jobs.records import Held, Job, JobError, Lease
from homereel.jobs.store import JobStore
from homereel.jobs.watch import LeaseWatch
from tests.jobs.conftest import Submit

OOPS = JobError("oops", "it broke")


def claim(store: JobStore, worker: str = "w", **more: Any) -> Lease:
    lease = store.claim(worker, **more)
    assert lease is not None
    return lease


def lose(store: JobStore) -> Job:
    """Claim the next job, and take it from its worker."""
    lease = claim(store)
    assert store.revoke(lease.job.id, lease.token, reason="w was killed")
    return store.get(lease.job.id)


def test_a_claimed_job_runs_and_is_nobody_elses(store: JobStore, submit: Submit) -> None:
    job = submit()
    lease = claim(store, "w1")
    assert lease.job == store.get(job.id)
    assert (lease.job.status, lease.worker, lease.job.id) == ("running", "w1", job.id)
    assert lease.job.started_at is not None
    assert store.claim("w2") is None
    assert store.leases() == ((job.id, "w1", lease.token, 0),)


def test_claims_go_by_priority_then_place(store: JobStore, submit: Submit) -> None:
    low, first, second, high = submit(priority=-1), submit(), submit(), submit(priority=1)
    store.move(second.id, before=first.id)
    assert [claim(store).job.id for _ in range(4)] == [job.id for job in (high, second, first, low)]


def test_a_warm_model_goes_first_but_starves_nobody(store: JobStore, submit: Submit) -> None:
    models = "BAAABAAAA"
    for model in models:
        submit(model=model)
    taken = [claim(store, model="A", max_skips=3).job.model for _ in models]
    assert taken == list("AAABAAABA")
    urgent = submit(model="B", priority=1)
    submit(model="A")
    assert claim(store, model="A").job.id == urgent.id


def test_what_was_moved_by_hand_is_not_passed_over(store: JobStore, submit: Submit) -> None:
    submit(model="A")
    wanted = submit(model="B")
    store.move(wanted.id, to="first")
    assert claim(store, model="A").job.id == wanted.id


def test_renew_tells_progress_and_what_the_user_wants(store: JobStore, submit: Submit) -> None:
    submit()
    lease = claim(store)
    assert store.renew(lease, plan={"steps": 4}, stage="denoise", num_steps=4, steps_done=0) == "run"
    assert store.renew(lease, steps_done=3, remaining_seconds=1.5) == "run"
    job = store.get(lease.job.id)
    assert (job.plan, job.stage, job.steps_done, job.num_steps) == ({"steps": 4}, "denoise", 3, 4)
    assert (job.progress, job.remaining_seconds) == (75, 1.5)
    assert store.leases()[0].beat == 2
    store.pause(job.id)
    assert store.renew(lease) == "pause"
    store.resume(job.id)
    assert store.renew(lease) == "run"
    store.cancel(job.id)
    assert store.renew(lease, steps_done=4) == "cancel"
    assert store.get(job.id).progress == 99


def test_complete(store: JobStore, submit: Submit) -> None:
    submit()
    lease = claim(store)
    done = store.complete(lease, {"file": "clip.mp4", "bytes": 7})
    assert (done.status, done.progress, done.is_over, done.error) == ("completed", 100, True, None)
    assert done.result == {"file": "clip.mp4", "bytes": 7}
    assert done.completed_at is not None
    assert store.leases() == ()


def test_case_28_a_worker_that_lost_its_lease_is_not_listened_to(store: JobStore, submit: Submit) -> None:
    job = submit()
    zombie = claim(store, "zombie")
    store.revoke(job.id, zombie.token, reason="silent")
    heir = claim(store, "heir")
    assert heir.token > zombie.token
    published: list[str] = []
    acts: list[Callable[[], object]] = [
        lambda: store.complete(zombie, {"file": "its.mp4"}, publish=lambda: published.append("zombie")),
        lambda: store.renew(zombie, steps_done=9),
        lambda: store.fail(zombie, OOPS),
        lambda: store.give_back(zombie, "queued"),
    ]
    for act in acts:
        with pytest.raises(LeaseLost, match="heir"):
            act()
    assert store.revoke(job.id, zombie.token, reason="silent") is False
    done = store.complete(heir, {"file": "clip.mp4"}, publish=lambda: published.append("heir"))
    assert done.result == {"file": "clip.mp4"}
    for act in acts:
        with pytest.raises(LeaseLost, match="completed"):
            act()
    store.delete(job.id)
    with pytest.raises(LeaseLost, match="deleted"):
        store.renew(heir)
    assert published == ["heir"]


def test_complete_told_twice_is_done_once(store: JobStore, submit: Submit) -> None:
    submit()
    lease = claim(store)
    published: list[int] = []
    first = store.complete(lease, {"a": 1}, publish=lambda: published.append(1))
    assert store.complete(lease, {"a": 2}, publish=lambda: published.append(2)) == first
    assert published == [1]


def test_what_cannot_be_published_is_not_completed(store: JobStore, submit: Submit) -> None:
    submit()
    lease = claim(store)
    with pytest.raises(ZeroDivisionError):
        store.complete(lease, {}, publish=lambda: 1 / 0)
    with pytest.raises(ValueError, match="JSON"):
        store.complete(lease, {"seconds": float("inf")}, publish=lambda: pytest.fail("published"))
    assert store.renew(lease) == "run"


def test_case_26_a_lost_job_is_queued_again_at_its_place(store: JobStore, submit: Submit) -> None:
    job, _ = submit(), submit()
    lost = lose(store)
    assert (lost.status, lost.attempts, lost.place) == ("queued", 1, job.place)
    assert lost.error is not None
    assert "was killed" in lost.error.message
    assert claim(store).job.id == job.id


def test_case_29_a_job_that_crashes_three_times_fails_and_the_queue_goes_on(store: JobStore, submit: Submit) -> None:
    bad, good = submit(), submit()
    assert [lose(store).status for _ in range(3)] == ["queued", "queued", "failed"]
    failed = store.get(bad.id)
    assert failed.error is not None
    assert failed.error.code == "worker_lost"
    assert "3 times" in failed.error.message
    assert claim(store).job.id == good.id


def test_case_29_a_job_that_gets_further_each_time_is_not_to_blame(store: JobStore, submit: Submit) -> None:
    submit()
    for step in range(1, 8):
        lease = claim(store)
        store.renew(lease, steps_done=step, num_steps=20)
        store.revoke(lease.job.id, lease.token, reason="killed")
    assert store.get(lease.job.id).attempts == 1
    for attempts, status in ((2, "queued"), (3, "failed")):  # crashes at a step that it had reached before
        lease = claim(store)
        store.renew(lease, steps_done=7)
        store.revoke(lease.job.id, lease.token, reason="killed")
        job = store.get(lease.job.id)
        assert (job.attempts, job.status) == (attempts, status)


def test_fail_is_final_unless_a_retry_is_asked_for(store: JobStore, submit: Submit) -> None:
    submit(max_attempts=2)
    again = store.fail(claim(store), OOPS, retry=True)
    assert (again.status, again.attempts, again.error) == ("queued", 1, OOPS)
    over = store.fail(claim(store), OOPS, retry=True)
    assert (over.status, over.attempts) == ("failed", 2)
    submit()
    assert store.fail(claim(store), OOPS).status == "failed"


@pytest.mark.parametrize(
    ("asked", "returned", "expected"),
    [
        ("", "queued", "queued"),
        ("", "paused", "queued"),  # resumed meanwhile
        ("", "cancelled", "cancelled"),
        ("pause", "paused", "paused"),
        ("pause", "queued", "paused"),
        ("cancel", "queued", "cancelled"),
        ("cancel", "paused", "cancelled"),
    ],
)
def test_a_job_that_is_given_back_becomes_what_the_user_wants(
    store: JobStore, submit: Submit, asked: str, returned: Any, expected: str
) -> None:
    submit()
    lease = claim(store)
    if asked:
        getattr(store, asked)(lease.job.id)
    back = store.give_back(lease, returned)
    assert (back.status, back.wanted, back.attempts) == (expected, "run", 0)
    assert store.leases() == ()


@pytest.mark.parametrize(("asked", "expected"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_lost_job_becomes_what_the_user_wants(store: JobStore, submit: Submit, asked: str, expected: str) -> None:
    submit()
    lease = claim(store)
    getattr(store, asked)(lease.job.id)
    store.revoke(lease.job.id, lease.token, reason="killed")
    assert store.get(lease.job.id).status == expected


def test_case_35_cancel_before_completion_stays_cancelled(store: JobStore, submit: Submit) -> None:
    submit()
    lease = claim(store)
    assert store.cancel(lease.job.id).wanted == "cancel"
    job = store.complete(lease, {"file": "clip.mp4"}, publish=lambda: pytest.fail("published"))
    assert (job.status, job.result) == ("cancelled", None)
    with pytest.raises(LeaseLost):
        store.renew(lease)


def test_case_35_cancel_racing_completion_gives_one_end(store: JobStore, submit: Submit) -> None:
    for _ in range(8):
        submit()
        lease = claim(store)
        published: list[bool] = []
        start = threading.Barrier(2)

        def cancel(lease: Lease = lease, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(WrongState):  # it was completed before
                store.cancel(lease.job.id)

        thread = threading.Thread(target=cancel)
        thread.start()
        start.wait()
        told = store.complete(lease, {}, publish=partial(published.append, True)).status
        thread.join()
        end = store.get(lease.job.id)
        assert end.status == told
        assert published == ([True] if told == "completed" else [])
        kinds = [event.kind for event in store.events(job_id=lease.job.id)]
        assert sum(kind in ("completed", "cancelled") for kind in kinds) == 1


class Clock:
    """A clock for a watcher that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_case_31_a_silent_worker_loses_its_lease_in_time(store: JobStore, submit: Submit) -> None:
    submit(), submit()
    silent, alive = claim(store, "silent"), claim(store, "alive")
    clock = Clock()
    watch = LeaseWatch(store, lease_seconds=20, clock=clock)
    revoked: tuple[Held, ...] = ()
    while not revoked and clock.now < 130:
        clock.now += 1
        store.renew(alive)
        revoked = watch.look()
    assert 119 <= clock.now <= 122
    assert [held.job_id for held in revoked] == [silent.job.id]
    assert store.get(silent.job.id).status == "queued"
    assert watch.look() == ()
    again = claim(store, "again")
    clock.now += 1
    assert watch.look() == ()  # a new lease has its own patience
    assert {held.token for held in store.leases()} == {alive.token, again.token}


def test_a_watcher_that_was_away_blames_nobody(store: JobStore, submit: Submit) -> None:
    submit()
    claim(store)
    clock = Clock()
    watch = LeaseWatch(store, lease_seconds=20, clock=clock)
    watch.look()
    for away in (3_600.0, -3_600.0, 1e9):
        clock.now += away
        assert watch.look() == ()


def test_case_32_no_clock_jump_gives_a_job_to_two(
    store: JobStore, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of day jumps by hours and years between any two steps; the order and the leases do not care."""
    real, jumps = time.time, iter([0, 3600, -3600, 9e8, -9e8, 3600, -86400] * 100)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    made = [submit().id for _ in range(4)]
    assert [job.id for job in store.list(newest_first=False).jobs] == made
    clock = Clock()
    watch = LeaseWatch(store, lease_seconds=20, clock=clock)
    leases = [claim(store, f"w{index}") for index in range(4)]
    assert [lease.job.id for lease in leases] == made
    for _ in range(8):
        clock.now += 4
        for lease in leases:
            store.renew(lease)
        assert watch.look() == ()
        assert store.claim("greedy") is None
    for lease in leases:
        assert store.complete(lease, {}).status == "completed"
    numbers = [event.number for event in store.events()]
    assert numbers == sorted(numbers)


def test_a_watcher_outlives_a_store_that_is_locked(
    store: JobStore, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    lease = claim(store)
    clock = Clock()
    watch = LeaseWatch(store, lease_seconds=4, clock=clock)

    def locked(*_: object, **__: object) -> bool:
        raise StoreUnavailable("locked")

    with monkeypatch.context() as patch:
        patch.setattr(store, "revoke", locked)
        for _ in range(5):
            clock.now += 1
            if clock.now < 105:
                assert watch.look() == ()
            else:
                with pytest.raises(StoreUnavailable):
                    watch.look()
    clock.now += 1
    assert [held.job_id for held in watch.look()] == [lease.job.id]
