"""/docs: what the server can be asked for, drawn from /openapi.json by a page that loads nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
_TYPES = {"docs.html": "text/html", "docs.js": "text/javascript", "docs.css": "text/css"}


@router.get("/docs")
def docs_page() -> Response:
    """The page."""
    return _file("docs.html")


@router.get("/docs.js")
def docs_script() -> Response:
    """What draws it."""
    return _file("docs.js")


@router.get("/docs.css")
def docs_style() -> Response:
    """How it looks."""
    return _file("docs.css")


def _file(name: str) -> Response:
    content = (files("homereel.server") / "pages" / name).read_bytes()
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
    return Response(content, headers=headers, media_type=f"{_TYPES[name]}; charset=utf-8")
