"""Renders the studio's templates, and turns failures of a page into a page that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from homereel import __version__
from homereel.core.errors import HomereelError
from homereel.server.errors import failure
from homereel.server.web import words
from homereel.server.web.files import static_url

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from jinja2 import Environment

# Everything comes from this server; no script or style stands within a page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGES = (
    ("create", "/", "Create"),
    ("drafts", "/drafts", "Drafts"),
    ("queue", "/queue", "Queue"),
    ("library", "/library", "Library"),
    ("storyboard", "/storyboard", "Storyboard"),
    ("models", "/models", "Models"),
    ("settings", "/settings", "Settings"),
    ("machine", "/machine", "Machine"),
)


class PageRoute(APIRoute):
    """A route whose failures a browser that looks at the page is told as a page; scripts get them as JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handling(request: Request) -> Response:
            try:
                return await handle(request)
            except HomereelError as error:
                if request.method != "GET" or "hx-request" in request.headers:
                    raise
                status = failure(error).status_code
                return render(request, "failure.html", page="", status=status, message=str(error))

        return handling


def render(
    request: Request, template: str, *, status: int = 200, context: Mapping[str, Any] | None = None, **more: Any
) -> Response:
    """A page, or a part of one, that shows what `context` and `more` name."""
    text = _environment().get_template(template).render(request=request, **(context or {}), **more)
    headers = {"content-security-policy": POLICY, "cache-control": "no-store"}
    return Response(text, status, headers=headers, media_type="text/html; charset=utf-8")


def redirect(address: str) -> Response:
    """Tell htmx to open another page."""
    return Response("{}", 200, headers={"hx-redirect": address}, media_type="application/json")


def make_ready() -> None:
    """Compile all templates, those of the first page first; else whoever opens a page first waits for its own."""
    environment = _environment()
    for name in ("create.html", *sorted(each.name for each in _folder().iterdir())):
        environment.get_template(name)


def _folder() -> Traversable:
    return files("homereel.server.web") / "templates"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda name: (_folder() / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(version=__version__, pages=PAGES, static=static_url)
    environment.filters.update(
        {name: getattr(words, name) for name in words.FILTERS},
        json=lambda value: json.dumps(value, ensure_ascii=True),
    )
    return environment
