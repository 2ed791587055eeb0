"""Every failure as a client sees it: a status, and one JSON object in the shape that OpenAI's clients read.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from homereel.core.errors import (
    DoesNotFit,
    HomereelError,
    InvalidRequest,
    KeyReused,
    MediaError,
    Stopped,
    StoreUnavailable,
    TooLarge,
    UnknownJob,
    UnknownModel,
    UnsupportedInput,
    UnsupportedPass,
    UnwritableTarget,
    WeightsError,
    WrongState,
)
from homereel.server.outbound import Unreachable

_log = logging.getLogger("homereel.server")

# The first class that fits decides.
_ANSWERS: tuple[tuple[type[HomereelError], int, str], ...] = (
    (UnknownModel, 400, "unknown_model"),
    (UnsupportedInput, 400, "unsupported"),
    (DoesNotFit, 400, "unsupported"),
    (TooLarge, 413, "too_large"),
    (InvalidRequest, 400, "invalid_value"),
    (UnwritableTarget, 507, "no_room"),
    (MediaError, 400, "invalid_input"),
    (WeightsError, 400, "model_not_here"),
    (UnsupportedPass, 400, "unsupported"),
    (UnknownJob, 404, "not_found"),
    (WrongState, 409, "wrong_state"),
    (KeyReused, 409, "idempotency_key_reused"),
    (StoreUnavailable, 503, "store_unavailable"),
    (Stopped, 503, "ending"),
    (Unreachable, 400, "unreachable"),
)
_CODES = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
_INTERNAL = "something unexpected happened in the server; its log tells what"


class ErrorDetail(BaseModel):
    """What was wrong, what is allowed, what to try; `param` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """How every failure is answered."""

    error: ErrorDetail


class NotReady(HomereelError):
    """The clip is not finished, or never will be."""


class TooSlow(HomereelError):
    """The client has announced more than it sends."""


def answer(content: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer in plain ASCII, which no text in it can break."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")


def refuse(
    status: int, message: str, *, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that is not carried out."""
    kind = "server_error" if status >= 500 else "authentication_error" if status == 401 else "invalid_request_error"
    detail = {"message": message, "type": kind, "param": param, "code": code}
    return answer({"error": detail}, status=status, headers=headers)


def answer_failures(app: FastAPI) -> None:
    """Make the app answer every exception in this shape."""
    app.add_exception_handler(HomereelError, _known)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def failure(error: HomereelError) -> Response:
    """The answer that one of our own errors becomes."""
    if isinstance(error, NotReady):
        return refuse(404, str(error), code="not_ready")
    if isinstance(error, TooSlow):
        return refuse(408, str(error), code="too_slow", headers={"connection": "close"})
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            headers = {"retry-after": "1"} if status == 503 else None
            return refuse(status, str(error), code=code, param=getattr(error, "field", "") or None, headers=headers)
    _log.error("%s: %s", type(error).__name__, error)
    return refuse(500, str(error), code="internal")


async def _known(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HomereelError)
    return failure(error)


async def _malformed(_request: Request, error: Exception) -> Response:
    """A query or a path that FastAPI could not read."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1]) if first["loc"] else ""
    return refuse(400, f"{field}: {first['msg']}", code="invalid_value", param=field or None)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    message = str(error.detail)
    if status == 404:
        message = f"there is nothing at {request.url.path[:200]}; /docs lists what there is"
    elif status == 405:
        message = f"{request.method} is not possible here; /docs lists what is"
    return refuse(status, message, code=_CODES.get(status, "refused"), headers=error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read it."""
    return refuse(400, "the request was cut off", code="cut_off")


async def _unexpected(_request: Request, error: Exception) -> Response:
    _log.error("unexpected %s", type(error).__name__, exc_info=error)
    return refuse(500, _INTERNAL, code="internal")
