"""A real Chromium for tests of the studio: started once, told of whatever its console complains about."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
AXE = Path(__file__).with_name("axe") / "axe.min.js"
# A machine for tests has no graphics card and little shared memory; neither is to end the browser in the midst.
ARGS = ("--disable-gpu", "--disable-dev-shm-usage")
SHOTS = Path(__file__).parents[3] / "artefacts" / "studio"
# What a page says of itself while its server is away; a test that takes the server away expects it.
GONE = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE")


def find_browser() -> str | None:
    """The browser's program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


OPENED: list[Tab] = []
"""Tabs that are open now, to be looked at when a test fails."""


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, from its start to its end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root it does not start within its sandbox.
        args = [*ARGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=find_browser(), args=args)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Tab:
    """One tab with the studio in it."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def shoot(self, name: str, *, whole: bool = False) -> None:
        """Keep a picture of it, for whoever looks at the run; `whole` also shows what one would have to scroll to."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)

    def keep_failure(self, name: str) -> None:
        """What the page looked like and held when a test failed."""
        if self.page.is_closed():
            return
        self.shoot(f"failed-{name}", whole=True)
        (SHOTS / f"failed-{name}.html").write_text(self.page.content(), encoding="utf-8")

    def findings(self) -> list[str]:
        """What axe has to say that is serious or worse, with the place of each."""
        told = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {each['nodes'][0]['html'][:150]}"
            for each in told["violations"]
            if each["impact"] in ("serious", "critical")
        ]


def open_tab(context: Any) -> Tab:
    """A fresh tab whose complaints are kept."""
    page = context.new_page()
    tab = Tab(page)
    OPENED.append(tab)
    page.on("close", lambda _: OPENED.remove(tab))
    page.set_default_timeout(120_000)  # a first plan loads torch, which a machine at work may take long over
    page.add_init_script(path=AXE)  # as a script tag the page's own policy would refuse it
    page.on("console", lambda message: _note(tab, message))
    page.on("pageerror", lambda error: tab.complaints.append(f"error: {error}"))
    return tab


def _note(tab: Tab, message: Any) -> None:
    if message.type in ("error", "warning"):
        tab.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")
