"""One job from claim to publish: it is resumed to the same bits, it stops when told, and only whole clips are shown."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from homereel import media
from homereel.core.errors import StoreUnavailable, UnsupportedPass, WeightsError
from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.state import DenoiseState
from homereel.jobs.records import Job
from homereel.jobs.store import JobStore
from homereel.jobs.warm_model import WarmModel
from homereel.jobs.work import Workplace
from homereel.models.wan.family import WanFamily
from tests.jobs.bench import FINISHED, Bench, acting, undisturbed


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmModel]:
    """The model stays loaded from test to test."""
    model = WarmModel()
    yield model
    model.free()


@pytest.fixture
def bench(tmp_path: Path, tiny_model_dir: Path, warm: WarmModel) -> Iterator[Bench]:
    with JobStore.in_folder(tmp_path) as store:
        yield Bench(store, tmp_path, tiny_model_dir, warm)


def wait_for(place: Workplace, job: Job, wanted: str) -> Callable[[], None]:
    """Ask for it, and let the heart hear it."""

    def act() -> None:
        getattr(place.store, wanted)(job.id)
        time.sleep(0.1)

    return act


def test_a_job_becomes_a_clip_with_pictures_and_nothing_else_is_left(bench: Bench) -> None:
    job = bench.submit()
    done = bench.work()
    assert done is not None
    assert done.status == "completed"
    assert done.result is not None
    assert bench.names(job) == FINISHED
    clip = media.read_clip(bench.folder(job).clip)
    assert (*clip.frames.shape, clip.fps) == (5, 32, 32, 3, 8)
    told = done.result
    assert [told[name] for name in ("file", "width", "height", "num_frames", "fps", "seconds", "seed")] == [
        *("clip.mp4", 32, 32, 5, 8, 0.625, 7)
    ]
    assert told["bytes"] == bench.folder(job).clip.stat().st_size
    assert told["frames_sha256"] == undisturbed(job)
    assert done.plan is not None
    assert done.plan["steps"] == 4
    for name in ("thumbnail.webp", "spritesheet.jpg"):
        Image.open(bench.folder(job).path / name).load()


def test_a_clip_knows_its_parent(bench: Bench) -> None:
    parent = bench.submit()
    first = bench.work()
    child = bench.store.submit({**parent.request, "seed": 8}, parent=parent.id, relation="remix")
    bench.work()
    record = media.read_record(bench.folder(child).clip)
    assert first is not None
    assert first.result is not None
    assert record is not None
    assert record["homereel"]["parents"] == [first.result["frames_sha256"]]


def test_a_seed_that_was_not_given_is_the_same_in_every_attempt(bench: Bench) -> None:
    job = bench.submit(seed=None)
    place = bench.place()
    stopped = bench.work(place=bench.place(make=acting(2, wait_for(place, job, "pause"))))
    assert stopped is not None
    assert stopped.status == "paused"
    bench.store.resume(job.id)
    done = bench.work()
    assert done is not None
    assert done.result is not None
    assert stopped.plan is not None
    assert done.result["seed"] == stopped.plan["seed"]
    assert "goes on after step 2" in bench.log(job)
    again = generate(Request.parse({**job.request, "seed": done.result["seed"]}))
    assert again.frames_sha256 == done.result["frames_sha256"]


@pytest.mark.parametrize("step", [1, 4])
def test_a_paused_job_frees_its_model_and_is_resumed_to_the_same_bits(bench: Bench, step: int) -> None:
    job = bench.submit()
    place = bench.place()
    stopped = bench.work(place=bench.place(make=acting(step, wait_for(place, job, "pause"))))
    assert stopped is not None
    assert stopped.status == "paused"
    assert not place.warm.is_loaded
    assert "state.safetensors" in bench.names(job)
    assert "clip.mp4" not in bench.names(job)
    assert bench.store.claim("two") is None
    bench.store.resume(job.id)
    done = bench.work()
    assert done is not None
    assert done.result is not None
    assert done.result["frames_sha256"] == undisturbed(job)
    assert f"goes on after step {step} " in bench.log(job)


def test_a_leaving_worker_gives_its_job_back(bench: Bench) -> None:
    job, left = bench.submit(), list[int]()
    stopped = bench.work(place=bench.place(make=acting(2, lambda: left.append(1))), leaving=lambda: bool(left))
    assert stopped is not None
    assert (stopped.status, stopped.attempts) == ("queued", 0)
    done = bench.work()
    assert done is not None
    assert done.result is not None
    assert done.result["frames_sha256"] == undisturbed(job)
    assert "goes on after step 2" in bench.log(job)


def test_28_a_worker_that_lost_its_lease_publishes_nothing(bench: Bench) -> None:
    job, finished = bench.submit(), list[Job | None]()

    def lose() -> None:
        held = bench.store.leases()[0]
        assert bench.store.revoke(held.job_id, held.token, reason="frozen")
        finished.append(bench.work(bench.claim("two")))
        written.append(bench.folder(job).clip.read_bytes())

    written: list[bytes] = []
    make = acting(4, lose)
    assert bench.work(bench.claim("one"), place=bench.place(make=make, beat_seconds=60)) is None
    now = bench.store.get(job.id)
    assert now == finished[0]
    assert now.status == "completed"
    assert bench.folder(job).clip.read_bytes() == written[0]
    assert bench.names(job) == FINISHED
    assert [event.kind for event in bench.store.events()].count("completed") == 1


def test_28_a_worker_that_lost_its_lease_stops_at_the_next_beat(bench: Bench) -> None:
    bench.submit(steps=50)
    seen: list[int] = []

    def lose() -> None:
        held = bench.store.leases()[0]
        bench.store.revoke(held.job_id, held.token, reason="frozen")
        time.sleep(0.1)

    def make(request: Request, target: Path, *, on_state: Callable[[DenoiseState], None], **options: Any) -> Any:
        def told(state: DenoiseState) -> None:
            seen.append(state.step)
            on_state(state)

        return acting(2, lose)(request, target, on_state=told, **options)

    assert bench.work(place=bench.place(make=make)) is None
    assert seen == [1, 2]


def test_34_a_cancelled_job_stops_within_a_step_and_leaves_no_file(bench: Bench) -> None:
    job = bench.submit(steps=50)
    place = bench.place()
    ended = bench.work(place=bench.place(make=acting(3, wait_for(place, job, "cancel"))))
    assert ended is not None
    assert ended.status == "cancelled"
    assert ended.steps_done <= 4
    assert bench.names(job) == {"log.txt"}
    assert not place.warm.is_loaded


def test_35_a_cancel_in_the_last_moment_gives_one_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.submit()
    complete = JobStore.complete

    def late(self: JobStore, *given: Any, **named: Any) -> Job:
        self.cancel(job.id)
        return complete(self, *given, **named)

    monkeypatch.setattr(JobStore, "complete", late)
    ended = bench.work(place=bench.place(beat_seconds=60))
    assert ended is not None
    assert ended.status == "cancelled"
    assert bench.names(job) == {"log.txt"}
    ends = [event.kind for event in bench.store.events() if event.kind in ("completed", "cancelled", "failed")]
    assert ends == ["cancelled"]


class Crash(BaseException):
    """kill -9, as far as a process can do that to itself and live: nothing but `finally` runs."""


def test_41_a_crash_between_rename_and_database_shows_the_job_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = bench.submit(), JobStore.complete

    def crash(self: JobStore, lease: Any, result: Any, *, publish: Any) -> Job:
        def renamed() -> None:
            publish()
            raise Crash

        return real(self, lease, result, publish=renamed)

    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "complete", crash)
        with pytest.raises(Crash):
            bench.work()
    held = bench.store.leases()[0]
    assert bench.store.get(job.id).status == "running"
    (bench.folder(job).path / ".part-1").mkdir()  # as a real kill leaves it
    (bench.folder(job).path / ".state.safetensors-1x").touch()
    assert bench.store.revoke(held.job_id, held.token, reason="died")
    done = bench.work()
    assert done is not None
    assert done.result is not None
    assert done.result["frames_sha256"] == undisturbed(job)
    assert "goes on after step 4" in bench.log(job)
    assert bench.names(job) == FINISHED
    assert [event.kind for event in bench.store.events()].count("completed") == 1


def test_a_damaged_state_is_told_of_and_the_clip_started_anew(bench: Bench) -> None:
    job, left = bench.submit(), list[int]()
    bench.work(place=bench.place(make=acting(3, lambda: left.append(1))), leaving=lambda: bool(left))
    state = bench.folder(job).state
    content = bytearray(state.read_bytes())
    content[-20] ^= 1
    state.write_bytes(content)
    done = bench.work()
    assert done is not None
    assert done.result is not None
    assert done.result["frames_sha256"] == undisturbed(job)
    assert "damaged, so the clip is started anew" in bench.log(job)


def test_the_state_of_another_clip_is_told_of_and_the_clip_started_anew(bench: Bench) -> None:
    job, left = bench.submit(), list[int]()
    bench.work(place=bench.place(make=acting(3, lambda: left.append(1))), leaving=lambda: bool(left))
    other = bench.submit(seed=8)
    bench.folder(other).make()
    bench.folder(job).state.rename(bench.folder(other).state)
    for each in (job, other):
        done = bench.work()
        assert done is not None
        assert done.result is not None
        assert done.result["frames_sha256"] == undisturbed(each)
    assert "does not fit, so the clip is started anew" in bench.log(other)


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"guidance": -3}, "invalid_request"),
        ({"model": "no-such-model"}, "unknown_model"),
        ({"image": "/no/such/picture.png"}, "unsupported"),
        ({"passes": "no_such_pass"}, "invalid_request"),
    ],
)
def test_what_the_user_got_wrong_fails_once_with_a_code(bench: Bench, wishes: dict[str, Any], code: str) -> None:
    job = bench.submit(**wishes)
    ended = bench.work()
    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", code)
    assert bench.names(job) == {"log.txt"}
    assert ended.error.message in bench.log(job)


@pytest.mark.parametrize(
    ("error", "code"), [(WeightsError("damaged"), "weights"), (UnsupportedPass("not here"), "unsupported")]
)
def test_errors_of_ours_are_told_by_their_class(bench: Bench, error: Exception, code: str) -> None:
    def fall(*_given: Any, **_named: Any) -> Any:
        raise error

    bench.submit()
    ended = bench.work(place=bench.place(make=fall))
    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code, ended.error.message) == ("failed", code, str(error))


def test_what_nobody_expected_is_tried_again_and_traced(bench: Bench) -> None:
    def fall() -> None:
        raise ZeroDivisionError("a bug")

    job = bench.submit()
    place = bench.place(make=acting(2, fall))
    ended = bench.work(place=place)
    assert ended is not None
    assert ended.status == "queued"
    assert not place.warm.is_loaded
    assert "Traceback" in bench.log(job)
    assert "test_work.py" in bench.log(job)
    done = bench.work(place=place)
    assert done is not None
    assert done.result is not None
    assert done.result["frames_sha256"] == undisturbed(job)


@pytest.mark.parametrize(("kind", "times"), [(torch.OutOfMemoryError, 1), (MemoryError, 2)])
def test_36_out_of_memory_goes_on_one_rung_lower(bench: Bench, kind: type[Exception], times: int) -> None:
    fallen: list[bool] = []
    place = bench.place()

    def fall() -> None:
        session = place.warm.session()
        fallen.append(session.is_loaded("text_encoder", dtype=session.machine.dtype))
        if len(fallen) <= times:
            raise kind("CUDA out of memory")

    job = bench.submit()
    ended = bench.work(place=bench.place(make=acting(2, fall, once=False)))
    assert ended is not None
    assert "memory ran out" in bench.log(job)
    assert fallen[0], "all parts lie side by side at first"
    assert not any(fallen[1:]), "each part alone the second time"
    if times == 1:
        assert ended.result is not None
        assert ended.result["frames_sha256"] == undisturbed(job)
        assert any("memory ran out" in warning for warning in ended.result["warnings"])
    else:
        assert ended.error is not None
        assert (ended.status, ended.error.code) == ("failed", "out_of_memory")
        assert len(fallen) == 2
        assert not place.warm.is_loaded


def test_38_numbers_that_are_not_finite_fail_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = WanFamily.velocity
    monkeypatch.setattr(WanFamily, "velocity", lambda *given, **named: real(*given, **named) * float("nan"))
    check_worthless(bench, "not finite")


def test_38_a_black_clip_fails_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    black = np.zeros((5, 32, 32, 3), np.uint8)
    monkeypatch.setattr(WanFamily, "decode", lambda *_given, **_named: (piece for piece in (black,)))
    check_worthless(bench, "black")


def check_worthless(bench: Bench, word: str) -> None:
    job = bench.submit()
    ended = bench.work()
    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "generation_failed")
    assert word in ended.error.message
    assert bench.names(job) == {"log.txt"}


def test_48_what_needs_more_memory_than_there_is_fails_before_anything_is_loaded(bench: Bench) -> None:
    place = bench.place()
    place.warm.free()
    session = place.warm.session()
    session.machine = replace(session.machine, device="cpu", ram_bytes=400 * 2**20)
    job = bench.submit()
    ended = bench.work()
    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "unsupported")
    assert "there are 0.4" in ended.error.message
    assert not session.is_loaded("text_encoder", dtype=session.machine.dtype)
    assert bench.names(job) == {"log.txt"}
    place.warm.free()


def test_49_the_same_seed_twice_gives_the_same_frames_and_47_no_socket(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*_given: object, **_named: object) -> None:
        raise AssertionError("a socket was asked for")

    monkeypatch.setenv("HOMEREEL_OFFLINE", "1")
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, no_socket)
    told = []
    for seed in (7, 7, 8):
        bench.submit(seed=seed)
        done = bench.work()
        assert done is not None
        assert done.result is not None
        told.append(done.result["frames_sha256"])
    assert told[0] == told[1] != told[2]


def test_a_store_that_is_locked_for_a_while_is_told_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job, real, times = bench.submit(guidance=-3), JobStore.fail, list[float]()

    def locked(self: JobStore, *given: Any, **named: Any) -> Job:
        if len(times) < 2:
            raise StoreUnavailable("locked")
        return real(self, *given, **named)

    monkeypatch.setattr(JobStore, "fail", locked)
    monkeypatch.setattr("homereel.jobs.work.time.sleep", times.append)
    ended = bench.work()
    assert ended is not None
    assert ended.status == "failed"
    assert bench.store.get(job.id) == ended
    assert times == [0.1, 0.2]


def test_previews_are_small_films_that_are_gone_with_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homereel.jobs.live_preview.MIN_SECONDS", 0.0)
    job, seen = bench.submit(), list[int]()

    def look() -> None:
        with Image.open(bench.folder(job).preview) as image:
            seen.append(getattr(image, "n_frames", 1))

    bench.work(place=bench.place(make=acting(2, look)))
    assert seen == [5]
    assert "preview.webp" not in bench.names(job)
