"""/library: every clip that was made, to be searched, filtered, tagged, compared, taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from homereel.jobs.records import Job
from homereel.jobs.store import JobStore
from homereel.server.parts import Here
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.views import Clip, Marks, clip_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)
PAGE_CLIPS = 24
_AT_ONCE, _MOST_READ = 500, 20_000

Short = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class Search:
    """What is looked for; empty fields let everything through."""

    words: str = ""
    tag: str = ""
    model: str = ""
    lora: str = ""
    seed: str = ""
    trash: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether anything is asked for."""
        return any((self.words, self.tag, self.model, self.lora, self.seed))

    def finds(self, clip: Clip) -> bool:
        """Every word must be in the prompt, the tags or the id."""
        text = f"{clip.prompt} {' '.join(clip.tags)} {clip.id}".lower()
        return (
            clip.is_trashed == self.trash
            and all(word in text for word in self.words.lower().split())
            and (not self.tag or self.tag in clip.tags)
            and (not self.model or self.model == clip.job.model)
            and (not self.lora or any(self.lora in lora for lora in clip.loras))
            and (not self.seed or self.seed == str(clip.seed))
        )


@router.get("/library")
def show_library(
    here: Here,
    shelf: OnShelf,
    request: Request,
    *,
    q: Short = "",
    tag: Short = "",
    model: Short = "",
    lora: Short = "",
    seed: Short = "",
    trash: bool = False,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The page; for a script that types on, its clips alone."""
    search = Search(q.strip(), tag, model, lora, seed.strip(), trash)
    marks = Marks.on(shelf)
    clips, last = _page(here.store, search, marks, after=after)
    context = {"clips": clips, "last": last, "search": search, "query": _query(search)}
    if "hx-request" in request.headers:
        return render(request, "_library.html", context=context)
    known = [clip_of(job, marks) for job in _finished(here.store, trash=trash, most=_AT_ONCE)]
    return render(
        request,
        "library.html",
        context=context,
        page="library",
        models=sorted({clip.job.model for clip in known}),
        loras=sorted({lora for clip in known for lora in clip.loras}),
        tags=sorted({tag for clip in known for tag in clip.tags}),
        num_trashed=len(marks.trash),
    )


def _page(store: JobStore, search: Search, marks: Marks, *, after: str | None) -> tuple[list[Clip], str | None]:
    """As many as fit a page, and the id behind which the next begins."""
    found: list[Clip] = []
    for job in _finished(store, trash=search.trash, most=_MOST_READ, after=after):
        clip = clip_of(job, marks)
        if search.finds(clip):
            if len(found) == PAGE_CLIPS:
                return found, found[-1].id
            found.append(clip)
    return found, None


def _finished(store: JobStore, *, trash: bool, most: int, after: str | None = None) -> Iterator[Job]:
    """The newest first. The trash also holds what failed or was cancelled."""
    read, has_more = 0, True
    while has_more and read < most:
        page = store.list(limit=_AT_ONCE, after=after, status=None if trash else "completed")
        yield from (job for job in page.jobs if job.is_over)
        read, has_more = read + len(page.jobs), page.has_more
        after = page.jobs[-1].id if page.jobs else None


def _query(search: Search) -> str:
    """The search as the end of an address."""
    from urllib.parse import urlencode

    told = {"q": search.words, "tag": search.tag, "model": search.model, "lora": search.lora, "seed": search.seed}
    given = {name: value for name, value in told.items() if value}
    return urlencode({**given, **({"trash": "1"} if search.trash else {})})
