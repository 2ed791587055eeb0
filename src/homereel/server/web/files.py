"""/static: the studio's own script, style and picture, and htmx; kept by browsers until they change."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from homereel.server.errors import refuse

router = APIRouter(include_in_schema=False)

_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_KEPT = "private, max-age=31536000, immutable"  # its address changes with its content


@router.get("/static/{name}")
def static_file(request: Request, name: str) -> Response:
    """One of them; nothing else is looked for."""
    content = _content().get(name)
    if content is None:
        return refuse(404, f"there is no file {name[:60]!r} here", code="not_found")
    body, tag = content
    suffix = name[name.rindex(".") :]
    headers = {"content-security-policy": _POLICY, "cache-control": _KEPT if request.url.query == tag else "no-cache"}
    return Response(body, headers=headers, media_type=_TYPES[suffix])


def static_url(name: str) -> str:
    """Its address, with a mark of its content."""
    return f"/static/{name}?{_content()[name][1]}"


@cache
def _content() -> dict[str, tuple[bytes, str]]:
    folder = files("homereel.server.web") / "static"
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
    return {name: (body, hashlib.sha256(body).hexdigest()[:12]) for name, body in found.items()}
