"""Walks through the studio in a real browser and takes the pictures of docs/tour.md.

    python benchmarks/studio_tour.py [--steps N] [--out docs/pictures]

It starts its own server on a fresh folder and ends it. Needs Chromium and Playwright's Python package.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROMPT = "a yellow star spins on a purple floor at night"
PORT = 8429
WAIT_MS = 1_200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=None, help="steps of the clips; fewer are quicker and rougher")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with served() as url, browser() as chromium:
        page = chromium.new_page(base_url=url, viewport={"width": 1280, "height": 860})
        page.set_default_timeout(WAIT_MS)
        walk(page, given.out, steps=given.steps)
        phone = chromium.new_page(base_url=url, viewport={"width": 390, "height": 844}, color_scheme="dark")
        phone.goto("/library")
        shoot(phone, given.out, "phone")


def walk(page: Any, out: Path, *, steps: int | None) -> None:
    """From the first page to two clips side by side."""
    page.goto("/")
    page.get_by_label("What is to be seen?").fill(PROMPT)
    if steps is not None:
        page.get_by_text("More settings").click()
        page.get_by_label("Steps", exact=True).fill(str(steps))
        page.get_by_text("More settings").click()
    page.wait_for_selector("#plan dl")
    shoot(page, out, "create")
    page.get_by_role("button", name="Draft 9").click()
    page.wait_for_url("**/drafts/board_*")
    page.wait_for_function("() => document.querySelectorAll('.card video').length === 9")
    for index, name in ((1, "Pick"), (2, "Discard")):
        page.locator(".card").nth(index).get_by_role("button", name=name).click()
        page.locator(f".card.{name.lower()}ed").wait_for()
    page.wait_for_selector("#picked button.primary:enabled")
    shoot(page, out, "drafts")
    page.get_by_role("button", name="Refine picked").click()
    page.wait_for_url("**/queue")
    page.wait_for_function("() => document.querySelector('img[data-preview]')?.naturalWidth > 0")
    shoot(page, out, "queue")
    page.get_by_text("Nothing waits").wait_for()
    page.goto("/library")
    page.locator(".card a.title").first.click()
    page.wait_for_selector("#costs dl")
    shoot(page, out, "clip")
    page.goto("/library")
    page.locator("[data-mark]").nth(1).check()
    page.locator("[data-mark]").nth(2).check()
    page.get_by_role("button", name="Compare two").click()
    page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.readyState >= 2)")
    shoot(page, out, "compare")


def shoot(page: Any, out: Path, name: str) -> None:
    """What is seen without scrolling, after a moment for clips to show themselves."""
    page.wait_for_timeout(1_000)
    page.screenshot(path=out / f"{name}.png")
    print(f"{name}.png")


@contextmanager
def served(*, port: int = PORT) -> Iterator[str]:
    """A server with a worker on a folder that goes with it."""
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "homereel.server", "--port", str(port), "--data", data, "--offline"]
        process = subprocess.Popen(command)
        try:
            until = time.monotonic() + 120
            while not answers(url):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the server did not start")
                time.sleep(0.1)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def answers(url: str) -> bool:
    """Whether somebody is there."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium that is on the PATH."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("no chromium on the PATH; Debian has it as: apt install chromium")
    with sync_playwright() as playwright:
        args = ["--disable-gpu", "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        started = playwright.chromium.launch(executable_path=program, args=args)
        try:
            yield started
        finally:
            started.close()


if __name__ == "__main__":
    main()
