"""A running server with its worker and a browser before it, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homereel.server.settings import Settings
from tests.server.running import Running, running, working
from tests.server.web.browser import Tab, chromium, find_browser, open_tab


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
