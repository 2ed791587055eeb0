"""Stands before every route: who calls, from where, with what, and how much of it. A refusal reads no body.

A page of the web that a user has open may send requests to a server on their machine, and DNS rebinding makes such a
server look like a part of that page. So the name by which the server is called must be its own (Host), the page that
calls must be one of its own (Origin), and what changes something must be JSON, which a plain form cannot send.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homereel.core.errors import TooLarge
from homereel.server.errors import TooSlow, refuse
from homereel.server.settings import LOOPBACK, Settings

# Answered without a token; they tell nothing of anybody's jobs.
PUBLIC = frozenset({"/health", "/docs", "/docs.js", "/docs.css", "/openapi.json"})
JSON, FORM = "application/json", "multipart/form-data"
_FORMS = re.compile(r"/api/v1/uploads|/v1/videos(/edits|/extensions|/[^/]+/remix)?")
_ONLY_FORM = "/api/v1/uploads"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_FORM_OVERHEAD_BYTES = 2**20
# A client that has announced more and sends none of it for so long is let go.
_PATIENCE_SECONDS = 60.0

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        most = _most_bytes(scope, headers, self._settings)
        refusal = self._refusal(scope, headers) or _too_much(headers, most)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await self._app(scope, _counted(receive, most), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The first thing that is wrong."""
        hosts = headers.getlist("host")
        host = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None or not self._is_own(host[1]):
            return refuse(
                403, "this server is not called by this name; use localhost, or start it with --host-name NAME",
                code="wrong_host",
            )  # fmt: skip
        if _is_foreign(headers, host=host):
            return refuse(403, "a page of another site cannot use this server", code="wrong_origin")
        if not self._is_known(scope, headers):
            return refuse(
                401, "send the server's token as `Authorization: Bearer TOKEN`", code="unauthorized",
                headers={"www-authenticate": "Bearer"},
            )  # fmt: skip
        return _wrong_type(scope, headers)

    def _is_own(self, host: str) -> bool:
        """A number is no name that could be made to point here. It is taken where others may come in at all."""
        name = host.strip("[]")
        if name in LOOPBACK or name in self._settings.allowed_hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._settings.is_local

    def _is_known(self, scope: Scope, headers: Headers) -> bool:
        token = self._settings.token
        if token is None or (scope["path"] in PUBLIC and scope["method"] in _SAFE):
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip()), _digest(token))  # takes as long for any guess
        return right and kind.lower() == "bearer"


def _is_foreign(headers: Headers, *, host: re.Match[str]) -> bool:
    """Whether a page of another origin sent this; programs other than browsers send neither of these headers."""
    if headers.get("sec-fetch-site", "none") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    scheme, _, rest = origin.lower().partition("://")
    own = _HOST.fullmatch(rest)
    if own is None or scheme not in _DEFAULT_PORTS:
        return True
    default = _DEFAULT_PORTS[scheme]
    return (own[1], own[2] or default) != (host[1], host[2] or default)


def _wrong_type(scope: Scope, headers: Headers) -> Response | None:
    if scope["method"] in _SAFE:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if not kind and not has_body:
        return None
    path = scope["path"]
    allowed = [FORM] if path == _ONLY_FORM else [JSON, FORM] if _FORMS.fullmatch(path) else [JSON]
    if kind in allowed:
        return None
    shown = kind[:60] if kind.isascii() and kind.isprintable() and kind else "nothing"
    return refuse(415, f"the content type is {shown}; send {' or '.join(allowed)}", code="wrong_content_type")


def _most_bytes(scope: Scope, headers: Headers, settings: Settings) -> int:
    """How large the body may be."""
    if not _FORMS.fullmatch(scope["path"]):
        return settings.max_json_bytes
    if headers.get("content-type", "").lower().startswith(FORM):
        return settings.max_upload_bytes + settings.max_inline_bytes + _FORM_OVERHEAD_BYTES
    return settings.max_inline_bytes


def _too_much(headers: Headers, most: int) -> Response | None:
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= most:
        return None
    return refuse(413, _too_large(most), code="too_large")


def _counted(receive: Receive, most: int) -> Receive:
    """The body as it comes; raises TooLarge when there is more than was allowed, whatever its header said, and TooSlow
    when nothing more of it comes.
    """
    seen, is_whole = 0, False

    async def counting() -> Message:
        nonlocal seen, is_whole
        if is_whole:  # what comes now is only that the client has left
            return await receive()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                message = await receive()
        except TimeoutError:
            raise TooSlow(f"nothing more of the request came within {_PATIENCE_SECONDS:g} s; send it again") from None
        is_whole = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        if seen > most:
            raise TooLarge(_too_large(most))
        return message

    return counting


def _with_headers(send: Send) -> Send:
    """Every answer carries these, but for what it says otherwise."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": _completed(message.get("headers", []), _HEADERS)}
        await send(message)

    return sending


def _completed(headers: list[tuple[bytes, bytes]], more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in headers}
    rest = [(name.encode(), value.encode()) for name, value in more.items() if name.encode() not in there]
    return [*headers, *rest]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _too_large(most: int) -> str:
    return f"the request is larger than the {most:,} bytes that are taken here"
