"""From what a form holds to requests that are queued: one clip, a board of drafts, or what follows from a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.jobs.records import Job
from homereel.server.attachments import as_attachment, map_files, with_paths
from homereel.server.intake import Wish
from homereel.server.native_body import read_fields
from homereel.server.parts import Parts
from homereel.server.video_object import plan_of
from homereel.workflows import Made, PromptFields, Step, expand_prompt

# Fields of a form that are fields of a request, as they are; an empty one is one that was not given.
_PLAIN = (
    "prompt",
    "negative_prompt",
    "model",
    "width",
    "height",
    "seconds",
    "num_frames",
    "fps",
    "steps",
    "guidance",
    "shift",
    "sampler",
    "seed",
    "turbo",
    "image",
    "last",
    "video",
)
SHOT_FIELDS = ("subject", "action", "scene", "camera", "lens", "light", "style", "sound")
MAX_DRAFTS = 64


def read_create(body: Mapping[str, Any], here: Parts) -> dict[str, Any]:
    """The fields of a request, with Attachments for its files. Raises InvalidRequest and what the engine raises."""
    given = {name: _text(body, name) for name in _PLAIN}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value}
    size = _text(body, "size")
    if size:
        width, _, height = size.partition("x")
        fields |= {"width": width, "height": height}
    if fields.get("video") and _text(body, "strength"):
        fields["strength"] = _text(body, "strength")
    lora = _text(body, "lora")
    if lora:
        fields["loras"] = [{"path": lora, "strength": _text(body, "lora_strength") or "1"}]
    shot = {name: _text(body, f"shot_{name}") for name in SHOT_FIELDS}
    if not fields.get("prompt") and any(shot.values()):
        fields["prompt"] = words_of_shot(shot, model=fields.get("model"))
    if not fields.get("prompt"):
        raise InvalidRequest("say what to see, such as: a red ball bounces on a green floor", field="prompt")
    return read_fields(fields, here)


def words_of_shot(shot: Mapping[str, str], *, model: str | None) -> str:
    """The prompt that the parts of a shot make. Raises InvalidRequest without a subject."""
    from homereel.models.registry import model_facts

    if not shot.get("subject"):
        raise InvalidRequest("subject: say who or what is seen, such as a red ball", field="shot_subject")
    return expand_prompt(PromptFields(**shot), model=model_facts(model))


def read_count(body: Mapping[str, Any]) -> int:
    """How many drafts are wanted."""
    text = _text(body, "drafts")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:4]) <= MAX_DRAFTS:
        raise InvalidRequest(f"drafts: give 1 to {MAX_DRAFTS}; 4, 9 and 16 make square boards", field="drafts")
    return int(text[:4])


def draft_wishes(fields: Mapping[str, Any], *, num: int, board: str) -> list[Wish]:
    """So many cheap tries of a request."""
    from homereel.core.request import Request
    from homereel.workflows import drafts

    steps = drafts(Request.parse(with_paths(fields)), num=num)
    return [wish_of(step, board=board) for step in steps]


def made(job: Job) -> Made:
    """A job's clip, to go on from."""
    return Made.of_job(job.id, request=job.request, plan=plan_of(job))


def again(job: Job, here: Parts) -> Wish:
    """The same wish once more, with the seed that it got."""
    fields = here.intake.request_of(job)
    seed = plan_of(job).get("seed")
    return Wish({**fields, **({} if seed is None else {"seed": seed})}, parent=job.id, relation="remix")


def submit(wishes: Sequence[Wish], here: Parts) -> list[Job]:
    """Queue them all. The first that is refused says why before any is queued: all are planned beforehand."""
    for wish in wishes:
        here.intake.plan(wish.fields)
    return [here.intake.accept(wish) for wish in wishes]


def wish_of(step: Step, *, parent: str | None = None, board: str | None = None) -> Wish:
    """A step as the queue takes it, linked to the clip that it comes from."""
    fields = map_files(step.fields(), as_attachment)
    return Wish(
        fields,
        parent=parent if parent is not None else step.parent,
        relation=step.relation,
        notes=step.notes,
        extra={} if board is None else {"board": board},
    )


def _text(body: Mapping[str, Any], name: str) -> str:
    """A form sends texts; of several with one name the last counts."""
    value = body.get(name, "")
    if isinstance(value, list):
        value = value[-1] if value else ""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise InvalidRequest(f"{name}: give it as text", field=name)
    return str(value).strip()
