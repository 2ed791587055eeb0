"""Finished clips as one file over HTTP: by the API, and from the studio's pages."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from homereel import media
from homereel.core.errors import Stopped
from homereel.core.sound import Sound
from homereel.jobs.store import JobStore
from homereel.server.films import KEPT_SECONDS
from homereel.workflows.film_record import film_parts
from tests.server.conftest import error_of, parts_of
from tests.server.web.clips import finish_next, finished


def kept(client: TestClient, path: Path, address: str) -> Path:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    return path


def message_of(answer: Any) -> str:
    return str(error_of(answer)["message"])


def hum(seconds: float) -> Sound:
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 48_000)) / 48_000)
    return Sound(wave[:, None].astype(np.float32), 48_000)


def test_clips_are_joined_and_fetched(client: TestClient, tmp_path: Path) -> None:
    silent, loud = finished(parts_of(client)), finished(parts_of(client), prompt="a blue box", sound=hum(1))
    told = client.post("/api/v1/films", json={"clips": [silent.id, loud.id], "title": "Two"})
    assert told.status_code == 201, told.text
    film = told.json()
    assert (film["num_frames"], film["has_sound"]) == (10, True)
    assert told.headers["location"] == film["links"]["content"]
    path = kept(client, tmp_path / "film.mp4", film["links"]["content"])
    frames = media.read_clip(path).frames
    shots = [media.read_clip(parts_of(client).intake.clip_of(job.id).path).frames for job in (silent, loud)]
    assert media.psnr(frames, np.concatenate(shots)) > 25  # of noise, the worst to encode; in another order it is 8
    parts = film_parts(media.read_record(path))
    assert parts is not None
    assert [part["recipe"]["prompt"] for part in parts] == ["a red ball", "a blue box"]
    assert str(parts_of(client).settings.data).encode() not in path.read_bytes(), "no folder of this machine"


def test_the_same_clips_are_joined_once_and_let_go_after_a_day(client: TestClient) -> None:
    parts = parts_of(client)
    jobs = [finished(parts), finished(parts, seed=8)]
    first = client.post("/api/v1/films", json={"clips": [job.id for job in jobs]}).json()
    path = parts.films.find(first["id"]).path
    written = path.stat().st_mtime_ns, path.stat().st_ino
    again = client.post("/api/v1/films", json={"clips": [job.id for job in jobs]}).json()
    assert again == first
    assert path.stat().st_ino == written[1]
    turned = client.post("/api/v1/films", json={"clips": [job.id for job in reversed(jobs)]}).json()
    assert turned["id"] != first["id"]
    old = time.time() - KEPT_SECONDS - 10
    os.utime(path, (old, old))
    parts.films.sweep()
    gone = client.get(first["links"]["content"])
    assert (gone.status_code, "POST its clips" in message_of(gone)) == (404, True)
    assert client.get(turned["links"]["content"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "clips: give the ids"),
        ({"clips": []}, 400, "1 to 500"),
        ({"clips": ["x"]}, 404, "no job"),
        ({"clips": ["x"] * 501}, 400, "501"),
        ({"clips": "x"}, 400, "clips: give the ids"),
        ({"clips": [], "tite": 1}, 400, "tite"),
        ({"clips": ["x"], "title": 5}, 400, "title"),
    ],
)
def test_what_makes_no_film_is_refused(client: TestClient, body: Any, status: int, words: str) -> None:
    answer = client.post("/api/v1/films", json=body)
    assert (answer.status_code, words in message_of(answer)) == (status, True), answer.text


def test_clips_that_do_not_go_together_are_named_by_their_words(client: TestClient, store: JobStore) -> None:
    small, large = finished(parts_of(client)), finished(parts_of(client), prompt="a blue box", width=64, height=64)
    answer = client.post("/api/v1/films", json={"clips": [small.id, large.id]})
    assert answer.status_code == 400
    assert re.search(r'clip 2 \("a blue box"\) is 64x64 at .* and clip 1 \("a red ball"\) is 32x32', message_of(answer))
    waiting = client.post("/api/v1/jobs", json={"prompt": "a", "model": "tiny"}).json()["id"]
    early = client.post("/api/v1/films", json={"clips": [waiting]})
    assert (early.status_code, "wait until" in message_of(early)) == (409, True)


def test_a_server_that_ends_lets_a_film_go(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(client)
    job = finished(parts)
    monkeypatch.setattr(parts.films, "_is_ending", lambda: True)
    with pytest.raises(Stopped, match="ends"):
        parts.films.join([(job, 0)])
    assert list((parts.settings.data / "films").iterdir()) == []


def test_a_storyboards_film_is_downloaded_from_its_page(client: TestClient, store: JobStore, tmp_path: Path) -> None:
    """The second shot goes on from the first, holds it and stands in its place; the third is cut to."""
    shots = {
        "shot_prompt": ["a red ball falls", "a red ball rolls", "a blue box slides"],
        "shot_seconds": ["", "", ""],
        "shot_begins": ["cut", "continues", "cut"],
    }
    body = {"title": "My Film: ÄÖ / 1", "model": "tiny-image", "seed": "3", "steps": "2", **shots}
    page = client.post("/studio/storyboard", json=body).headers["hx-redirect"]
    finish_next(parts_of(client))
    early = client.post(f"/studio{page}/join", json={})
    assert (early.status_code, "not all shots" in message_of(early)) == (409, True)
    made = [finish_next(parts_of(client), sound=hum(0.5)) for _ in range(2)]
    text = client.get(page).text
    assert "Download as one file" in text
    assert "2 clips" in text
    assert "with sound" in text
    address = client.post(f"/studio{page}/join", json={}).headers["hx-redirect"]
    assert 'filename="my-film-1.mp4"' in client.get(address).headers["content-disposition"]
    look = media.probe(kept(client, tmp_path / "film.mp4", address))
    assert look.num_frames == sum(job.result["num_frames"] for job in made if job.result)
    assert look.sound is not None
    assert look.record is not None
    assert look.record["homereel"]["film"]["title"] == body["title"]


def test_marked_clips_become_a_film_in_their_order(client: TestClient) -> None:
    jobs = [finished(parts_of(client), seed=seed) for seed in (1, 2, 3)]
    ids = [jobs[2].id, jobs[0].id]
    page = client.post("/studio/films", json={"clip": ids}).headers["hx-redirect"]
    text = client.get(page).text
    videos = re.findall(r'<video src="/v1/videos/(video_\w+)/content', text)
    assert videos[:2] == ids
    assert "2 clips, beginning with a red ball" in text
    assert "mark 2 to 500" in message_of(client.post("/studio/films", json={"clip": ids[0]}))
    client.post(f"/studio/jobs/{ids[0]}/trash")
    client.post("/studio/trash/empty")
    assert "1 of its clips was deleted" in client.get(page).text


def test_a_clip_that_starts_from_the_last_picture_before_it_shows_that_once(client: TestClient) -> None:
    from dataclasses import replace

    from homereel.server.film_routes import cuts_of

    first, second = finished(parts_of(client)), finished(parts_of(client), seed=8)
    follows = replace(second, parent=first.id, extra={**second.extra, "takes": "image"})
    assert [skip for _, skip in cuts_of([first, follows])] == [0, 1]
    assert [skip for _, skip in cuts_of([follows, first])] == [0, 0]
    assert [skip for _, skip in cuts_of([first, second, follows])] == [0, 0, 0]


def test_a_clip_is_saved_under_its_words(client: TestClient) -> None:
    job = finished(parts_of(client))
    answer = client.get(f"/clips/{job.id}/download")
    assert 'filename="a-red-ball-7.mp4"' in answer.headers["content-disposition"]
    assert answer.content == parts_of(client).intake.clip_of(job.id).path.read_bytes()
