"""The studio's routes, in process: pages, forms, the plan, boards, the library, the trash; who may see them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from homereel.jobs.blobs import JobFolder
from homereel.jobs.store import JobStore
from homereel.server.web.render import PAGES
from homereel.server.web.words import code
from tests.server.conftest import BASE, Serve, parts_of, png
from tests.server.web.clips import FIELDS, finish_next, finished

HTMX = {"hx-request": "true"}
FORM = {name: str(value) for name, value in FIELDS.items()}


def create(client: TestClient, **fields: str) -> Any:
    return client.post("/studio/create", json={**FORM, **fields})


def drafts(client: TestClient, *, count: int = 4) -> str:
    answer = create(client, drafts=str(count))
    assert answer.status_code == 200, answer.text
    return str(answer.headers["hx-redirect"]).removeprefix("/drafts/")


def message_of(answer: Any) -> str:
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize("address", [address for _, address, _ in PAGES])
def test_every_page_is_there_empty_and_says_what_to_do(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<h1>" in answer.text
    assert not re.search(r"\son\w+=|<script>|<style|style=", answer.text), "nothing inline: the policy forbids it"
    outside = re.findall(r"""(?:src|href|action|hx-\w+)=["'](https?:[^"']+)""", answer.text)
    assert all(link.startswith("https://") for link in outside)
    assert address == "/models" or not outside, "only licences are elsewhere, and only as links"
    if address in ("/drafts", "/queue", "/library"):
        assert 'class="button primary" href="/"' in answer.text


def test_a_page_and_its_files_weigh_little(client: TestClient) -> None:
    page = client.get("/")
    files = set(re.findall(r'"(/static/[^"]+)"', page.text))
    modules = ["live.js", "clips.js", "drop.js", "board.js", "queue.js", "marks.js", "compare.js", "film.js"]
    contents = [client.get(address) for address in [*files, *(f"/static/{name}" for name in modules)]]
    assert all(content.status_code == 200 for content in contents)
    assert len(page.content) + sum(len(content.content) for content in contents) <= 150_000
    fingerprinted = client.get(next(iter(files)))
    assert "immutable" in fingerprinted.headers["cache-control"]
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/render.py").status_code == 404


def test_a_clip_is_created_from_the_form(client: TestClient, store: JobStore) -> None:
    answer = create(client, negative_prompt="", width="", generate="1")
    assert answer.status_code == 200
    (job,) = store.list().jobs
    assert job.request == FIELDS
    assert f'data-job="{job.id}"' in answer.text
    assert "waiting" in answer.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": " "}, "say what to see"),
        ({"steps": "many"}, "whole number"),
        ({"model": "tini"}, "did you mean tiny"),
        ({"image": "/etc/passwd"}, "no upload"),
        ({"drafts": "0"}, "4, 9 and 16"),
        ({"seed": "-1"}, "at least 0"),
    ],
)
def test_a_wrong_form_is_told_what_to_do(client: TestClient, store: JobStore, fields: Any, words: str) -> None:
    answer = create(client, **fields)
    assert answer.status_code == 400
    assert words in message_of(answer)
    assert not store.list().jobs


def test_a_shot_becomes_a_prompt(client: TestClient, store: JobStore) -> None:
    shot = {"shot_subject": "a red ball", "shot_action": "bounces", "shot_light": "at night"}
    words = client.post("/studio/words", json={**shot, "model": "tiny"})
    assert "red ball bounces" in words.text
    create(client, **{**shot, "prompt": ""})
    assert "red ball bounces" in store.list().jobs[0].request["prompt"]


def test_a_file_is_given_by_the_id_of_its_upload(client: TestClient, store: JobStore) -> None:
    upload = client.post("/api/v1/uploads", files={"file": ("a.png", png())}).json()["id"]
    assert create(client, model="tiny-image", image=upload).status_code == 200
    assert store.list().jobs[0].request["image"]
    assert drafts_of(client, model="tiny-image", image=upload) == 4


def drafts_of(client: TestClient, **fields: str) -> int:
    board = create(client, drafts="4", **fields).headers["hx-redirect"]
    return client.get(board).text.count("<article")


def test_the_plan_is_told_before_the_click(client: TestClient, store: JobStore) -> None:
    plan = client.post("/studio/plan", json=FORM).text
    assert 'href="/settings">say the watts' in plan, "energy is known as soon as the power is"
    assert "2 steps" in plan
    assert re.search(r"Memory</dt><dd>[\d.]+ (MB|GB)", plan)
    assert "Say what to see" in client.post("/studio/plan", json={**FORM, "prompt": ""}).text
    assert "did you mean tiny" in client.post("/studio/plan", json={**FORM, "model": "tini"}).text
    assert not store.list().jobs


def test_energy_and_its_price_follow_from_the_settings(client: TestClient) -> None:
    from homereel.server.web.estimate import estimate

    client.post("/studio/settings", json={"watts": "400", "price_per_kwh": "0,30", "currency": "EUR"})
    page = client.get("/settings").text
    assert 'value="400"' in page
    assert 'value="0.30"' in page
    told = estimate([{"seconds": 9.0, "band": [8.0, 12.0]}] * 100, {"watts": "400", "price_per_kwh": "0.30"})
    assert (told.seconds, told.band, told.kwh, told.cost) == (900.0, (800.0, 1200.0), 0.1, "0.0300")
    assert estimate([{"seconds": None}, {"seconds": 1.0}], {"watts": "400"}).kwh is None
    assert "1 to 100,000" in message_of(client.post("/studio/settings", json={"watts": "lots"}))


def test_drafts_are_picked_and_refined(client: TestClient, store: JobStore) -> None:
    board = drafts(client)
    parts = parts_of(client)
    jobs = [finish_next(parts) for _ in range(4)]
    assert [job.extra["board"] for job in jobs] == [board] * 4
    assert [job.request["seed"] for job in jobs] == [7, 8, 9, 10]
    page = client.get(f"/drafts/{board}").text
    assert page.count("<article") == 4
    assert "pick a finished draft first" in message_of(client.post(f"/studio/boards/{board}/refine"))
    card = client.post(f"/studio/jobs/{jobs[2].id}/pick", json={"pick": "picked"})
    assert 'class="card picked"' in card.text
    assert card.headers["hx-trigger"] == "picks-changed"
    client.post(f"/studio/jobs/{jobs[0].id}/pick", json={"pick": "discarded"})
    costs = client.get(f"/studio/boards/{board}/costs", headers=HTMX).text
    assert "full size" in costs
    assert "disabled" not in costs
    assert client.post(f"/studio/boards/{board}/refine").headers["hx-redirect"] == "/queue"
    (refined,) = store.queue()
    assert (refined.parent, refined.relation) == (jobs[2].id, "refine")
    assert refined.request["refine"] == f"job:{jobs[2].id}"
    assert f'href="/drafts/{board}"' in client.get("/drafts").text


def test_drafts_are_made_and_refined_as_it_was_wished(client: TestClient, store: JobStore) -> None:
    wish = {**FORM, "steps": "20", "draft_share": "0.5", "draft_steps": "3", "refine_strength": "0.3"}
    told = client.post("/studio/plan", json={**wish, "width": "64", "height": "64"}).text
    assert "32×32, 3 steps" in told
    board = client.post("/studio/create", json={**wish, "drafts": "1"}).headers["hx-redirect"]
    job = finish_next(parts_of(client))
    assert job.request["steps"] == 3
    client.post(f"/studio/jobs/{job.id}/pick", json={"pick": "picked"})
    assert 'placeholder="0.3"' in client.get(f"/studio{board.replace('drafts', 'boards')}/costs").text
    for body, strength in (({}, 0.3), ({"strength": "0.8"}, 0.8)):
        client.post(f"/studio{board.replace('drafts', 'boards')}/refine", json=body)
        assert store.queue()[-1].request["strength"] == strength
    client.post(f"/studio/jobs/{job.id}/follow/refine", json={"strength": "0.5"})
    assert store.queue()[-1].request["strength"] == 0.5
    wrong = client.post("/studio/create", json={**wish, "drafts": "4", "refine_strength": "2"})
    assert "give 0.05 to 1" in message_of(wrong)
    assert "give 1 to 1000" in client.post("/studio/plan", json={**FORM, "draft_steps": "0"}).text


def test_the_plan_tells_what_refining_takes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """More strength is more steps; times are known where the cost of a step was measured, as a stand-in does here."""
    from homereel.core.plan import Plan

    monkeypatch.setattr(
        Plan, "as_dict", lambda plan: {**vars(plan), "seconds": 100 * (plan.strength or 1), "band": None}
    )
    texts = [client.post("/studio/plan", json={**FORM, "refine_strength": each}).text for each in ("", "0.25")]
    assert "Refine one</dt><dd>about 1 min<" in texts[0]
    assert "Refine one</dt><dd>about 25 s<" in texts[1]


@pytest.mark.parametrize(
    ("what", "relation", "count"), [("vary", "remix", 4), ("enlarge", "refine", 1), ("extend", "extension", 1)]
)
def test_a_clip_is_gone_on_from(client: TestClient, store: JobStore, what: str, relation: str, count: int) -> None:
    job = finished(parts_of(client), model="tiny-image")
    answer = client.post(f"/studio/jobs/{job.id}/follow/{what}", json={})
    assert answer.status_code == 200, answer.text
    assert answer.headers["hx-redirect"].startswith("/drafts/" if count > 1 else "/queue")
    assert {(each.parent, each.relation) for each in store.queue()} == {(job.id, relation)}
    assert len(store.queue()) == count


def test_a_clip_is_made_again_and_its_settings_are_used(client: TestClient, store: JobStore) -> None:
    job = finished(parts_of(client))
    client.post(f"/studio/jobs/{job.id}/follow/again", json={})
    (again,) = store.queue()
    assert (again.request, again.parent) == (job.request, job.id)
    form = client.get(f"/?job={job.id}").text
    assert "a red ball</textarea>" in form
    assert re.search(r'name="steps"[^>]*value="2"', form)
    assert re.search(r'name="seed"[^>]*value="7"', form)
    assert "nothing that is done here" in message_of(client.post(f"/studio/jobs/{job.id}/follow/dance", json={}))
    waiting = client.post(f"/studio/jobs/{again.id}/follow/refine", json={})
    assert (waiting.status_code, "wait until it is done" in message_of(waiting)) == (409, True)


def test_a_dropped_clip_gives_its_settings_back(client: TestClient) -> None:
    job = finished(parts_of(client))
    clip = JobFolder(parts_of(client).settings.data, job.id).clip.read_bytes()
    upload = client.post("/api/v1/uploads", files={"file": ("some.mp4", clip)}).json()["id"]
    address = client.post("/studio/recipe", json={"upload": upload}).headers["hx-redirect"]
    assert "a red ball</textarea>" in client.get(address).text
    plain = client.post("/api/v1/uploads", files={"file": ("a.png", png())}).json()["id"]
    assert "carries no settings" in message_of(client.post("/studio/recipe", json={"upload": plain}))


def test_the_library_is_searched_tagged_and_filtered(client: TestClient) -> None:
    parts = parts_of(client)
    ball, box = finished(parts), finished(parts, prompt="a blue box", seed=11)
    kept = client.post(f"/studio/jobs/{box.id}/tags", json={"tags": "Film One, , box"})
    assert 'value="box, film one"' in kept.text

    def found(**query: str) -> set[str]:
        text = client.get("/library", params=query, headers=HTMX).text
        return {job.id for job in (ball, box) if f"card-{job.id}" in text}

    assert found() == {ball.id, box.id}
    assert found(q="RED") == {ball.id}
    assert found(q="film") == found(tag="film one") == found(seed="11") == {box.id}
    assert found(model="tiny") == {ball.id, box.id}
    assert found(model="pocket") == found(q="red", seed="11") == set()
    assert "Nothing fits" in client.get("/library?q=zebra").text
    assert "<option selected" not in client.get("/library").text
    assert "at most 30" in message_of(client.post(f"/studio/jobs/{box.id}/tags", json={"tags": "x" * 41}))


def test_the_library_shows_a_page_at_a_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from homereel.server.web import library

    monkeypatch.setattr(library, "PAGE_CLIPS", 2)
    jobs = [finished(parts_of(client), seed=seed) for seed in (1, 2, 3)]
    first = client.get("/library").text
    older = re.search(r'href="(/library\?after=[^"]+)"', first)
    assert older is not None
    assert jobs[0].id not in first
    second = client.get(older[1]).text
    assert jobs[0].id in second
    assert jobs[2].id not in second
    assert "Older clips" not in second


def test_what_is_in_the_trash_can_be_taken_out_until_it_is_deleted(client: TestClient, store: JobStore) -> None:
    job = finished(parts_of(client))
    clip = JobFolder(parts_of(client).settings.data, job.id).clip
    assert "trash first" in message_of(client.post(f"/studio/jobs/{job.id}/delete"))
    client.post(f"/studio/jobs/{job.id}/trash")
    assert job.id not in client.get("/library").text
    assert job.id not in client.get("/studio/recent").text
    assert job.id in client.get("/library?trash=1").text
    client.post(f"/studio/jobs/{job.id}/restore")
    assert job.id in client.get("/library").text
    assert clip.exists()
    client.post(f"/studio/jobs/{job.id}/trash")
    client.post("/studio/trash/empty")
    assert not clip.exists()
    assert not store.list().jobs
    assert "trash is empty" in client.get("/library?trash=1").text


def test_two_clips_are_compared(client: TestClient) -> None:
    one, other = finished(parts_of(client)), finished(parts_of(client), seed=8)
    page = client.get(f"/compare?clip={one.id}&clip={other.id}").text
    assert page.count("<video") == 2
    assert re.search(r'row">seed</th><td>7</td><td>8</td>', page)
    assert "Mark two clips" in client.get(f"/compare?clip={one.id}").text


def test_the_queue_is_put_into_another_order(client: TestClient, store: JobStore) -> None:
    for seed in (1, 2, 3):
        create(client, seed=str(seed))
    ids = [job.id for job in store.queue()]
    client.post(f"/studio/jobs/{ids[2]}/move/up")
    client.post(f"/studio/jobs/{ids[0]}/move/down")
    client.post(f"/studio/jobs/{ids[2]}/move/up")  # it is the first already
    assert [job.id for job in store.queue()] == [ids[2], ids[0], ids[1]]
    page = client.get("/queue").text
    assert page.index(ids[2]) < page.index(ids[0]) < page.index(ids[1])
    assert "only takes jobs" in page


def test_a_film_of_shots_is_queued_and_linked(client: TestClient, store: JobStore) -> None:
    shots = {
        "shot_prompt": ["a red ball falls", "", "a blue box slides"],
        "shot_seconds": ["0.6", "", ""],
        "shot_begins": ["cut", "cut", "continues"],
    }
    answer = client.post(
        "/studio/storyboard", json={"title": "Two", "model": "tiny-image", "seed": "3", "steps": "2", **shots}
    )
    assert answer.status_code == 200, answer.text
    first, second = store.queue()
    assert (second.parent, second.relation) == (first.id, "extension")
    assert f"job:{first.id}" in json.dumps(second.request)
    assert "as soon as all its shots are done" in client.get(answer.headers["hx-redirect"]).text
    assert "write at least one shot" in message_of(client.post("/studio/storyboard", json={"shot_prompt": ""}))
    assert "Two" in client.get("/storyboard").text


def test_pages_that_are_not_there_say_where_to_go(client: TestClient) -> None:
    for address in ("/clips/video_" + "0" * 32, "/clips/x", "/drafts/x", "/films/x", "/compare", "/?job=x"):
        answer = client.get(address)
        assert 400 <= answer.status_code < 500, address
        assert 'href="/library"' in answer.text, address


def test_what_a_prompt_holds_is_never_markup(client: TestClient) -> None:
    text = "<script>alert(1)</script> \"' & red"
    job = finished(parts_of(client), prompt=text)
    for address in ("/", "/library", "/queue", f"/clips/{job.id}", f"/?job={job.id}"):
        page = client.get(address).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page, address


def test_a_form_of_another_site_cannot_act(client: TestClient, store: JobStore) -> None:
    form = "prompt=a+red+ball&model=tiny"
    plain = client.post("/studio/create", content=form, headers={"content-type": "application/x-www-form-urlencoded"})
    assert plain.status_code == 415
    foreign = client.post("/studio/create", json=FORM, headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert not store.list().jobs


def test_a_server_with_a_token_asks_browsers_for_it(serve: Serve) -> None:
    token = "a-token-of-enough-letters"
    client = serve(token=token, host="0.0.0.0", headers={"accept": "text/html"})
    for address in ("/", "/queue", "/library", "/clips/x"):
        assert client.get(address).headers["location"] == "/sign-in", address
        wrong = client.get(address, headers={"authorization": "Bearer wrong"})
        assert wrong.headers["location"] == "/sign-in", address
    assert client.get("/studio/recent", headers={"accept": "*/*"}).status_code == 401
    assert client.get("/v1/videos").status_code == 401
    assert client.get("/sign-in").status_code == 200
    assert client.get("/static/studio.css").status_code == 200
    assert "not this server's token" in message_of(client.post("/sign-in", json={"token": "guess"}))
    signed = client.post("/sign-in", json={"token": token})
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in cookie
    assert client.get("/").status_code == 200
    assert client.get("/v1/videos").status_code == 200
    assert client.post("/studio/plan", json=FORM, headers={"origin": BASE}).status_code == 200
    assert client.post("/studio/plan", json=FORM, headers={"origin": "https://evil.example"}).status_code == 403
    client.cookies.clear()
    assert client.get("/", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_fetching_a_model_asks_for_its_licence_and_a_network(client: TestClient, serve: Serve) -> None:
    restricted = client.post("/studio/pulls", json={"model": "hunyuanvideo-1.5-480p-t2v"})
    assert "read it" in message_of(restricted)
    assert "comes with homereel" in message_of(client.post("/studio/pulls", json={"model": "pocket"}))
    offline = serve(offline=True)
    assert "nothing is fetched" in message_of(offline.post("/studio/pulls", json={"model": "wan"}))
    assert "fits" not in client.get("/models").text.split("<h2>")[0]


def test_models_to_be_fetched_stand_in_their_families(client: TestClient) -> None:
    page = client.get("/models").text
    assert page.count('<details class="group panel" open') == 1, "only the first is open"
    family = page[page.index("<summary>Wan 2.2 ") :].split("</details>")[0]
    assert set(re.findall(r"<h3>([\w.-]+)", family)) == {"wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"}


def test_what_stands_between_backticks_is_code_and_never_markup() -> None:
    assert code("run `homereel <b>` & look") == "run <code>homereel &lt;b&gt;</code> &amp; look"


def test_the_machine_page_tells_what_is_well(client: TestClient) -> None:
    page = client.get("/studio/machine").text
    assert "What computes" in page
    assert "only takes jobs" in page
    assert "clips play in every browser" in page
