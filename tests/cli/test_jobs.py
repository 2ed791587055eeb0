"""`homereel jobs`, on the store alone: there is no server in any of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job, JobError
from homereel.jobs.store import JobStore
from tests.cli.conftest import Cli


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is used when none is given."""
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "jobs"


@pytest.fixture
def store(data: Path) -> Iterator[JobStore]:
    with JobStore.in_folder(data) as store:
        yield store


def submit(store: JobStore, prompt: str = "a red ball") -> Job:
    return store.submit({"prompt": prompt}, model="pocket")


def test_looking_makes_nothing(cli: Cli, data: Path) -> None:
    assert cli("jobs", "list").out == "no jobs\n"
    told = cli("jobs", "list", "--json").json
    assert told == {"folder": str(data), "counts": {}, "jobs": [], "has_more": False}
    refused = cli("jobs", "show", "video_" + "0" * 32)
    assert refused.code == 2
    assert "there are no jobs in" in refused.complaint
    assert not data.exists()


def test_list(cli: Cli, store: JobStore, data: Path) -> None:
    done, running, queued = (submit(store, prompt) for prompt in ("one", "two\x1b[31m\n", "three " * 99))
    lease = store.claim("w")
    assert lease is not None
    store.complete(lease, {"file": "clip.mp4"})
    lease = store.claim("w")
    assert lease is not None
    store.renew(lease, steps_done=1, num_steps=4, remaining_seconds=65)
    store.pause(running.id)
    shown = cli("jobs", "list")
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == [job.id[-8:] for job in (queued, running, done)]
    assert "running, to be paused  25 %, 1 min 5 s left  pocket" in shown.out
    assert lines[1].endswith("…")
    assert lines[-1] == "1 queued, 1 running, 1 completed"
    assert "\x1b" not in shown.out
    told = cli("jobs", "list", "--json", "--limit", "2").json
    assert [job["id"] for job in told["jobs"]] == [queued.id, running.id]
    assert (told["has_more"], told["counts"]["completed"]) == (True, 1)
    assert (told["jobs"][1]["progress"], told["jobs"][1]["wanted"]) == (25, "pause")
    assert "1 are shown" in cli("jobs", "list", "-n", "1").out
    assert [job["id"] for job in cli("jobs", "list", "--status", "completed", "--json").json["jobs"]] == [done.id]
    assert cli("jobs", "list", "--status", "lost").code == 2
    elsewhere = cli("jobs", "list", "--data", data.parent / "other")
    assert elsewhere.out == "no jobs\n"


def test_show(cli: Cli, store: JobStore, data: Path) -> None:
    parent = submit(store)
    lease = store.claim("w")
    assert lease is not None
    result = {"file": "clip.mp4", "bytes": 2_000_000, "width": 96, "height": 64, "num_frames": 17, "fps": 8.0}
    store.complete(lease, result)
    shown = cli("jobs", "show", parent.id[-6:])
    assert (shown.code, shown.err) == (0, "")
    for words in (parent.id, "100 %", "96x64, 17 frames at 8 fps", f"{parent.id}/clip.mp4 (2 MB)", "a red ball"):
        assert words in shown.out
    child = store.submit({"prompt": "b"}, parent=parent.id, relation="remix", priority=3)
    lease = store.claim("w1")
    assert lease is not None
    store.renew(lease, stage="denoise", steps_done=1, num_steps=2, remaining_seconds=3)
    out = cli("jobs", "show", child.id).out
    for words in ("50 %, denoise, step 1 of 2, 3.0 s left", "w1", f"remix      {parent.id}", "priority   3"):
        assert words in out
    store.fail(lease, JobError("black", "the picture\nis black"))
    assert "the picture is black (black)" in cli("jobs", "show", child.id).out
    told = cli("jobs", "show", child.id, "--json").json
    assert (told["status"], told["error"]["code"], told["worker"]) == ("failed", "black", None)
    assert told["folder"] == str(data / "jobs" / child.id)
    assert [event["kind"] for event in told["events"]] == ["submitted", "started", "progress", "failed"]


def test_cancel_pause_resume_retry(cli: Cli, store: JobStore) -> None:
    first, second = submit(store), submit(store)
    assert cli("jobs", "pause", first.id, second.id[-8:]).out == f"{first.id} is paused\n{second.id} is paused\n"
    assert cli("jobs", "resume", first.id, second.id).out.count("is queued") == 2
    lease = store.claim("w")
    assert lease is not None
    assert cli("jobs", "pause", first.id).out == f"{first.id} will be paused after its present step\n"
    assert cli("jobs", "resume", first.id).out == f"{first.id} goes on\n"
    told = cli("jobs", "cancel", first.id, second.id, "--json").json
    assert [(job["status"], job["wanted"]) for job in told["jobs"]] == [("running", "cancel"), ("cancelled", "run")]
    assert store.renew(lease) == "cancel"
    assert cli("jobs", "retry", second.id).out == f"{second.id} is queued\n"


def test_a_misspelt_id_changes_nothing(cli: Cli, store: JobStore) -> None:
    job = submit(store)
    refused = cli("jobs", "cancel", job.id, "video_1")
    assert refused.code == 2
    assert refused.complaint == "there is no job 'video_1'; `homereel jobs list` shows all"
    assert store.get(job.id).status == "queued"


def test_what_cannot_be_done_is_said(cli: Cli, store: JobStore) -> None:
    job = submit(store)
    lease = store.claim("w")
    assert lease is not None
    store.complete(lease, {})
    refused = cli("jobs", "pause", job.id)
    assert refused.code == 2
    assert refused.complaint.startswith(f"cannot pause {job.id}, which is completed")


def test_move(cli: Cli, store: JobStore) -> None:
    a, b, c = (submit(store).id for _ in range(3))
    assert cli("jobs", "move", c, "--first").out == f"{c} is number 1 in the queue\n"
    assert cli("jobs", "move", c, "--after", a[-8:]).out == f"{c} is number 2 in the queue\n"
    assert cli("jobs", "move", a, "--last").out == f"{a} is number 3 in the queue\n"
    assert cli("jobs", "move", a, "--before", b).out == f"{a} is number 2 in the queue\n"
    assert cli("jobs", "move", b, "--priority", "5", "--json").json["jobs"][0]["priority"] == 5
    assert [job["id"] for job in cli("jobs", "list", "--queue", "--json").json["jobs"]] == [b, c, a]
    for words in ([], ["--first", "--last"], ["--before", b, "--priority", "1"]):
        assert "say where to" in cli("jobs", "move", a, *words).complaint
    store.pause(a)
    assert cli("jobs", "move", a, "--first").out == f"{a} is paused\n"


def test_logs(cli: Cli, store: JobStore, data: Path) -> None:
    job = submit(store)
    shown = cli("jobs", "logs", job.id)
    assert (shown.code, shown.out) == (0, "")
    assert "no log yet" in shown.err
    folder = JobFolder(data, job.id)
    folder.make()
    folder.log.write_text("w: begins\nw: \x1b[31mred\n", encoding="utf-8")
    assert cli("jobs", "logs", job.id).out == "w: begins\nw: [31mred\n"
    told = cli("jobs", "logs", job.id, "--json").json
    assert (told["log"], told["file"]) == ("w: begins\nw: \x1b[31mred\n", str(folder.log))


def test_rm(cli: Cli, store: JobStore, data: Path) -> None:
    job = submit(store)
    folder = JobFolder(data, job.id)
    folder.make()
    assert cli("jobs", "rm", job.id).out == f"{job.id} is gone\n"
    assert not folder.path.exists()
    assert store.list().jobs == ()


def test_case_45_a_damaged_database_is_one_line(cli: Cli, data: Path) -> None:
    data.mkdir(parents=True)
    (data / "jobs.sqlite3").write_bytes(b"no database, whatever its name is" * 9)
    refused = cli("jobs", "list")
    assert refused.code == 1
    assert "is damaged" in refused.complaint
