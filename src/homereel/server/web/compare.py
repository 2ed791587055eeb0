"""/compare: two clips side by side, frame by frame in step."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest
from homereel.server.parts import Here
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.views import Marks, checked_id, clip_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/compare")
def show_compare(
    here: Here, shelf: OnShelf, request: Request, *, clip: Annotated[list[str] | None, Query(max_length=10)] = None
) -> Response:
    """The page for two finished clips."""
    ids = list(dict.fromkeys(clip or ()))
    if len(ids) != 2:
        raise InvalidRequest("mark two clips in the library, then choose Compare there", field="clip")
    marks = Marks.on(shelf)
    left, right = (clip_of(here.store.get(checked_id(each)), marks) for each in ids)
    if not (left.is_done and right.is_done):
        raise InvalidRequest("both clips must be done to be compared; look into the queue", field="clip")
    differences = [
        (name, left.plan.get(name), right.plan.get(name))
        for name in ("model", "width", "height", "num_frames", "fps", "seed", "steps", "guidance", "shift", "sampler")
        if left.plan.get(name) != right.plan.get(name)
    ]
    return render(request, "compare.html", page="library", left=left, right=right, differences=differences)
