"""/sign-in: the token is typed once, and the browser keeps a cookie for it."""

from __future__ import annotations

import asyncio
import hmac

from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest
from homereel.server.errors import answer
from homereel.server.json_body import read_json
from homereel.server.parts import Here
from homereel.server.web.door import COOKIE, KEPT_SECONDS, SIGN_IN, ticket
from homereel.server.web.render import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)
_PAUSE_SECONDS = 0.5  # after a wrong token; a right one has at least 16 characters, so this is only politeness


@router.get(SIGN_IN)
def show_sign_in(request: Request) -> Response:
    """The page that asks for it."""
    return render(request, "sign_in.html", page="sign-in")


@router.post(SIGN_IN)
async def sign_in(here: Here, request: Request) -> Response:
    """Take the token, and give the cookie."""
    given, token = (await read_json(request)).get("token"), here.settings.token
    if token is None:
        return answer({}, headers={"hx-redirect": "/"})
    if not isinstance(given, str) or not hmac.compare_digest(ticket(given.strip()), ticket(token)):
        await asyncio.sleep(_PAUSE_SECONDS)
        raise InvalidRequest(
            "that is not this server's token; it stands in the file that --token-file names, or in HOMEREEL_TOKEN",
            field="token",
        )
    response = answer({}, headers={"hx-redirect": "/"})
    response.set_cookie(
        COOKIE,
        ticket(token),
        max_age=KEPT_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response
