"""Every page of a studio in use, light and dark, wide and on a phone: nothing serious for axe, nothing wider than the
screen, nothing asked from elsewhere, nothing heavy, nothing said on the console. A picture of each is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homereel import media
from homereel.server.settings import Settings
from tests.server.running import running
from tests.server.web.browser import Tab, open_tab
from tests.server.web.furnished import NAMES, furnish

pytestmark = pytest.mark.slow  # `make browser` runs these, where there is a Chromium

MAX_PAGE_BYTES = 300_000
EMPTY = {
    f"{name}-empty": address
    for name, address in {
        "create": "/",
        "drafts": "/drafts",
        "queue": "/queue",
        "library": "/library",
        "storyboard": "/storyboard",
    }.items()
}
THEMES = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
# What the page itself weighs: clips, and what is drawn of them, are not counted.
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .filter((e) => !/v1\\/videos|preview|inputs/.test(e.name)).reduce((sum, e) => sum + e.decodedBodySize, 0)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SHARE = """() => {
  const box = document.querySelector("main > :not([hidden])").getBoundingClientRect();
  return box.width / document.documentElement.clientWidth;
}"""
READY = """() => !document.querySelector(".htmx-request") && [...document.images].every((i) => i.complete)"""


@pytest.fixture(scope="module")
def addresses(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of pages in use, of the same ones before anything was made, and of the one that asks for a token; no worker."""

    def settings(name: str, **more: Any) -> Settings:
        return Settings(data=tmp_path_factory.mktemp(name), port=0, workers=0, **more)

    closed = settings("closed", token="a-token-of-enough-letters")
    with running(settings("used")) as used, running(settings("empty")) as empty, running(closed) as asking:
        yield {
            **{name: used.url + address for name, address in furnish(used.parts).items()},
            **{name: empty.url + address for name, address in EMPTY.items()},
            "sign-in": f"{asking.url}/sign-in",
        }


@pytest.fixture(scope="module", params=THEMES, ids=lambda theme: f"{theme[0]}-{theme[1]}")
def themed(browser: Any, request: pytest.FixtureRequest) -> Iterator[tuple[Tab, str]]:
    """A tab of one theme and width; its motion is off, so that two pictures of a page are alike."""
    scheme, width = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    yield open_tab(context), f"{scheme}-{width}"
    context.close()


@pytest.mark.parametrize("name", [*NAMES, *EMPTY, "sign-in"])
def test_a_page_looks_well(themed: tuple[Tab, str], addresses: dict[str, str], name: str) -> None:
    tab, theme = themed
    page = tab.page
    tab.complaints.clear()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(addresses[name])
    page.wait_for_load_state("load")
    page.wait_for_function(READY)
    tab.shoot(f"{name}-{theme}", whole=True)
    assert tab.findings() == []
    assert page.evaluate(OVERFLOW) <= 0, "nothing is wider than the screen"
    assert page.evaluate(SHARE) > 0.28, "nothing is squeezed into a corner"
    assert page.evaluate(WEIGHT) <= MAX_PAGE_BYTES
    own = "/".join(addresses[name].split("/")[:3])
    elsewhere = [url for url in asked if not url.startswith((own, "blob:", "data:"))]
    assert elsewhere == []
    assert [each for each in tab.complaints if answer.status < 400 or "404" not in each] == []


def test_marked_clips_become_a_film_that_is_downloaded(browser: Any, addresses: dict[str, str], tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = open_tab(context)
    page = tab.page
    page.goto(addresses["library"])
    marks = page.locator("[data-mark]")
    wanted = [marks.nth(place).get_attribute("value") for place in (2, 0)]
    marks.nth(2).check()
    marks.nth(0).check()
    page.get_by_text("Marked 2").wait_for()
    page.get_by_label("Search").fill("red ball")
    page.wait_for_function("() => document.querySelectorAll('#clips .card').length === 1")
    page.get_by_role("button", name="Join to a film").click()
    page.wait_for_url("**/films/film_*")
    sources = page.locator("[data-film] video").evaluate_all("(all) => all.map((each) => each.src)")
    assert [source.split("/")[-2] for source in sources] == wanted, "in the order in which they were marked"
    page.get_by_role("button", name="Play the film").click()
    page.get_by_text("2 of 2").wait_for()
    with page.expect_download() as fetched:
        page.get_by_role("button", name="Download as one file").click()
    fetched.value.save_as(tmp_path / "film.mp4")
    assert fetched.value.suggested_filename == "2-clips-beginning-with-a-yellow.mp4"
    assert media.probe(tmp_path / "film.mp4").num_frames == 66
    assert tab.complaints == []
    context.close()
