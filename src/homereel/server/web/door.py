"""Lets browsers in where a server asks for a token: a page, a <video> and an EventSource cannot send one as a header.

Who has typed the token once holds a cookie, which stands for it as long as the token stays the same. It cannot be read
by scripts and is not sent along from other sites; the guard behind this door still looks at Host, Origin and type.
"""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from homereel.server.settings import Settings

COOKIE = "homereel_studio"
KEPT_SECONDS = 30 * 24 * 3600
SIGN_IN = "/sign-in"
# Shown to whoever is not in yet: how the page to sign in looks, and what it does. It tells nothing of anybody's jobs.
_OPEN_PREFIX = "/static/"


class Door:
    """ASGI middleware before the guard."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app, self._token = app, settings.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._token is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._may_pass(scope, headers):
            scope = _with_token(scope, self._token)
        elif _wants_page(scope, headers) and not self._has_token(headers):
            await RedirectResponse(SIGN_IN, status_code=303)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope, headers: Headers) -> bool:
        path = scope["path"]
        if path == SIGN_IN or (path.startswith(_OPEN_PREFIX) and scope["method"] in ("GET", "HEAD")):
            return True
        given = _cookie(headers)
        return self._token is not None and given is not None and hmac.compare_digest(given, ticket(self._token))

    def _has_token(self, headers: Headers) -> bool:
        given = headers.get("authorization", "").partition(" ")[2].strip()
        return self._token is not None and hmac.compare_digest(ticket(given), ticket(self._token))


def ticket(token: str) -> str:
    """What the cookie holds: worth as much as the token here, and worth nothing to find the token out."""
    return hmac.new(token.encode("utf-8", "surrogatepass"), b"homereel studio", hashlib.sha256).hexdigest()


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None and found.value.isascii() else None


def _wants_page(scope: Scope, headers: Headers) -> bool:
    """Whether somebody looks at it in a browser, rather than a program that is to be told 401. The first page is always
    taken for that: nothing but a browser has any use for it.
    """
    if scope["path"] == "/":
        return True
    is_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    return is_page and not scope["path"].startswith(("/v1/", "/api/", "/docs"))


def _with_token(scope: Scope, token: str) -> Scope:
    others = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
    return {**scope, "headers": [*others, (b"authorization", b"Bearer " + token.encode("ascii"))]}
