"""A running server with its worker and a browser before it, shared by the tests of a file."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from homereel.server.settings import Settings
from tests.server.running import Running, running, working
from tests.server.web.browser import OPENED, Tab, chromium, find_browser, open_tab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of every tab that is open when a test fails, a picture and the page are kept beside the other pictures."""
    report = yield
    if report.when == "call" and report.failed:
        name = re.sub(r"[^\w-]+", "-", item.name).strip("-")
        for number, tab in enumerate(list(OPENED), start=1):
            tab.keep_failure(name if number == 1 else f"{name}-tab-{number}")
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Skips where there is none."""
    pytest.importorskip("playwright", reason="the tests in a browser need Playwright's Python package")
    if find_browser() is None:
        pytest.skip("the tests in a browser need chromium on the PATH, such as Debian's: apt install chromium")
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def studio(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a worker, which makes clips with the built-in model."""
    settings = Settings(data=tmp_path_factory.mktemp("studio"), port=0, workers=0)
    with running(settings) as server, working(settings):
        yield server


@pytest.fixture
def tab(browser: Any, studio: Running) -> Iterator[Tab]:
    """A tab at Create. At its end the console must have had nothing to complain about."""
    context = browser.new_context(base_url=studio.url, viewport={"width": 1280, "height": 900})
    opened = open_tab(context)
    opened.page.goto("/")
    yield opened
    context.close()
    assert opened.complaints == []


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file that is no clip."""
    from tests.server.conftest import png

    path = tmp_path / "picture.png"
    path.write_bytes(png())
    return path
