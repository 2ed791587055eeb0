"""/studio/recipe: a clip that is dropped onto a page gives its settings back."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.server.json_body import read_json
from homereel.server.parts import Here
from homereel.server.web.prefill import prefill
from homereel.server.web.render import PageRoute, redirect

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.post("/studio/recipe")
async def open_recipe(here: Here, request: Request) -> Response:
    """Open Create with the settings of an upload. Raises InvalidRequest if it carries none."""
    upload = str((await read_json(request)).get("upload", ""))
    await to_thread.run_sync(lambda: prefill(here, job=None, upload=upload))
    return redirect(f"/?upload={upload}")
