"""The studio in a real browser, with the built-in model behind it: what a person does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.running import Running, running, wait_for
from tests.server.web.browser import GONE, Tab, open_tab

pytestmark = pytest.mark.slow  # `make browser` runs these, where there is a Chromium

PROMPT = "a red ball bounces on a green floor"
# Few steps and few frames: whether the page works does not depend on how good the clip is.
QUICK = {"seconds": "0.3", "width": "48", "height": "48"}
PLAYS = "(id) => { const v = document.querySelector(`#card-${id} video`); return v && v.readyState >= 2 && !v.error; }"


def fill(tab: Tab, *, steps: int = 2, prompt: str = PROMPT, seed: int | None = None) -> None:
    page = tab.page
    page.get_by_label("What is to be seen?").fill(prompt)
    page.get_by_text("More settings").click()
    page.get_by_label("Steps", exact=True).fill(str(steps))
    for name, value in {**QUICK, **({} if seed is None else {"seed": str(seed)})}.items():
        page.locator(f"#{name}").fill(value)


def jobs_of(studio: Running, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        httpx2.get(f"{studio.url}/api/v1/jobs", params=query).raise_for_status().json()["data"]
    )
    return found


def newest(studio: Running) -> dict[str, Any]:
    return jobs_of(studio, limit=1)[0]


def test_three_actions_from_the_first_page_to_a_playing_clip(tab: Tab, studio: Running) -> None:
    page = tab.page
    fill(tab)
    # The plan follows what is typed: what it says of the fields before the last one is soon replaced.
    page.locator("#plan").get_by_text(", 2 steps").first.wait_for()
    page.get_by_role("button", name="Generate one").click()
    card = page.locator("#recent .card").first
    card.locator("progress").wait_for(state="attached")
    job = newest(studio)
    page.wait_for_function(PLAYS, arg=job["id"])
    tab.shoot("created")
    page.wait_for_function("() => document.querySelector('#recent video').currentTime > 0")


def test_nine_drafts_are_picked_by_keys_and_refined(tab: Tab, studio: Running) -> None:
    page = tab.page
    fill(tab)
    page.get_by_role("button", name="Draft 9").click()
    page.wait_for_url("**/drafts/board_*")
    page.wait_for_function("() => document.querySelectorAll('.card video').length === 9")
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    page.wait_for_selector(".card.picked")
    assert page.locator(".card").nth(1).get_attribute("class") == "card picked"
    assert page.evaluate("document.activeElement.classList.contains('card')"), "the focus stays on the card"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.wait_for_selector(".card.discarded")
    page.wait_for_selector("#picked button.primary:enabled")
    tab.shoot("drafts")
    assert tab.findings() == []
    page.keyboard.press("r")
    page.wait_for_url("**/queue")
    refined = newest(studio)
    assert refined["relation"] == "refine"
    httpx2.post(f"{studio.url}/api/v1/jobs/{refined['id']}/cancel")  # its full size would take its time


def test_a_closed_tab_changes_nothing_and_a_long_clip_is_cancelled(tab: Tab, studio: Running) -> None:
    page = tab.page
    fill(tab, steps=1000)
    page.get_by_role("button", name="Generate one").click()
    page.locator("#recent .card").first.wait_for()
    job = newest(studio)["id"]
    page.close()
    wait_for(lambda: httpx2.get(f"{studio.url}/api/v1/jobs/{job}").json()["steps_done"] > 0)
    back = open_tab(tab.page.context)
    back.page.goto("/queue")
    line = back.page.locator(f"#line-{job}")
    back.page.wait_for_function(f"() => document.querySelector('#line-{job} img[data-preview]')?.naturalWidth > 0")
    back.shoot("queue")
    assert back.findings() == []
    line.get_by_role("button", name="Cancel").click()
    line.get_by_role("button", name="Try again").wait_for()
    assert httpx2.get(f"{studio.url}/api/v1/jobs/{job}").json()["status"] == "cancelled"
    assert back.complaints == []


def test_a_dropped_clip_brings_its_settings_back(tab: Tab, studio: Running, picture: Path, tmp_path: Path) -> None:
    page = tab.page
    made = next(job for job in jobs_of(studio) if job["status"] == "completed")
    clip = tmp_path / "from-elsewhere.mp4"
    clip.write_bytes(httpx2.get(f"{studio.url}/v1/videos/{made['id']}/content").content)
    page.goto("/library")
    zone = page.locator('[data-drop="recipe"]')
    page.locator("#file-recipe").set_input_files(picture)
    zone.get_by_text("carries no settings of homereel").wait_for()
    assert [each for each in tab.complaints if "400" not in each] == []
    tab.complaints.clear()
    page.locator("#file-recipe").set_input_files(clip)
    page.wait_for_url("**/?upload=*")
    assert page.get_by_label("What is to be seen?").input_value() == made["request"]["prompt"]
    assert page.locator("#seed").input_value() == str(made["plan"]["seed"])
    assert page.locator("#steps").input_value() == str(made["plan"]["steps"])


def test_two_tabs_show_the_same(tab: Tab, studio: Running) -> None:
    other = open_tab(tab.page.context)
    other.page.goto("/")
    other.page.wait_for_function("() => document.querySelector('#recent')")
    fill(tab, seed=4711)
    tab.page.get_by_role("button", name="Generate one").click()
    for each in (tab, other):
        each.page.get_by_text("seed 4711").first.wait_for()
    assert other.complaints == []


def test_two_clips_run_in_lockstep(tab: Tab, studio: Running) -> None:
    page = tab.page
    page.goto("/library")
    marks = page.locator("[data-mark]")
    marks.nth(0).check()
    assert page.get_by_role("button", name="Compare two").is_disabled()
    marks.nth(1).check()
    page.get_by_role("button", name="Compare two").click()
    page.wait_for_url("**/compare?*")
    page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.readyState >= 2)")
    page.get_by_role("button", name="One frame on").click()
    page.get_by_role("button", name="One frame on").click()
    moments = page.evaluate("[...document.querySelectorAll('video')].map((v) => v.currentTime)")
    assert moments[0] == moments[1] > 0
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => Number(document.querySelector('[data-lockstep]').dataset.apart) < 0.2")
    tab.shoot("compare")


def test_a_server_that_starts_again_finds_its_page(browser: Any, studio: Running, tmp_path: Path) -> None:
    settings = dataclasses.replace(studio.settings, data=tmp_path / "other")
    context = browser.new_context()
    tab = open_tab(context)
    with running(settings) as first:
        port = int(first.url.rpartition(":")[2])
        tab.page.goto(f"{first.url}/queue")
        tab.page.wait_for_function("() => document.readyState === 'complete'")
        tab.page.wait_for_timeout(500)  # the stream of events opens behind the page
    tab.page.get_by_text("The server does not answer").wait_for()
    with running(dataclasses.replace(settings, port=port)) as second:
        httpx2.post(f"{second.url}/api/v1/jobs", json={"prompt": PROMPT}).raise_for_status()
        tab.page.get_by_text(PROMPT).wait_for()
        tab.page.get_by_text("The server does not answer").wait_for(state="hidden")
        context.close()
    assert [each for each in tab.complaints if not any(word in each for word in GONE)] == []
