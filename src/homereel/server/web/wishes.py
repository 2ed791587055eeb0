"""From what a form holds to requests that are queued: one clip, a board of drafts, or what follows from a clip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.core.request import MAX_STEPS
from homereel.jobs.records import Job
from homereel.server.attachments import as_attachment, map_files, with_paths
from homereel.server.intake import Wish
from homereel.server.native_body import read_fields
from homereel.server.parts import Parts
from homereel.server.video_object import plan_of
from homereel.server.web.kept import read_kept
from homereel.workflows import Made, PromptFields, Step, expand_prompt, job_place

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
    "refine",
    "extend",
    "extend_from",
    "passes",
    "sigmas",
    "sigma_max",
    "sound",
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
    if (fields.get("video") or fields.get("refine")) and _text(body, "strength"):
        fields["strength"] = _text(body, "strength")
    fields |= read_kept(_texts(body, "kept"), here)
    lora = _text(body, "lora")
    if lora:
        uses = fields.get("loras", [])
        fields["loras"] = [*uses, {"path": lora, "strength": _text(body, "lora_strength") or "1"}]
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


@dataclass(frozen=True)
class DraftWish:
    """How drafts are made, and later refined; None leaves it to the workflow."""

    side_share: float | None = None
    steps: int | None = None
    strength: float | None = None


def read_draft(body: Mapping[str, Any]) -> DraftWish:
    """From the form of Create. Raises InvalidRequest."""
    share = read_number(body, "draft_share", least=0.1, most=1)
    steps = read_number(body, "draft_steps", least=1, most=MAX_STEPS)
    if steps is not None and steps != int(steps):
        raise InvalidRequest(f"draft_steps: {steps:g} is no whole number", field="draft_steps")
    strength = read_strength(body, "refine_strength")
    return DraftWish(share, None if steps is None else int(steps), strength)


def read_strength(body: Mapping[str, Any], name: str = "strength") -> float | None:
    """How much of a clip is made anew when it is refined."""
    return read_number(body, name, least=0.05, most=1)


def read_number(body: Mapping[str, Any], name: str, *, least: float, most: float) -> float | None:
    """A number in a form; None where it was left empty. Raises InvalidRequest."""
    text = _text(body, name)
    if not text:
        return None
    number = math.nan
    with suppress(ValueError):
        number = float(text)
    if not least <= number <= most:
        raise InvalidRequest(f"{name}: {text[:40]!r} is not possible; give {least:g} to {most:g}", field=name)
    return number


def draft_wishes(fields: Mapping[str, Any], *, num: int, board: str, how: DraftWish) -> list[Wish]:
    """So many cheap tries of a request; each knows how it wants to be refined."""
    steps = _drafts(fields, num=num, how=how)
    wishes = [wish_of(step, board=board) for step in steps]
    if how.strength is None:
        return wishes
    return [replace(wish, extra={**wish.extra, "refine_strength": how.strength}) for wish in wishes]


def refined_draft(fields: Mapping[str, Any], how: DraftWish) -> Wish:
    """What refining a draft will be, before there is one. Raises UnsupportedInput where the model cannot."""
    from homereel.workflows import refine

    (draft,) = _drafts(fields, num=1, how=how)
    return wish_of(refine(Made("draft", job_place("video_" + "0" * 32), draft.request), strength=how.strength))


def _drafts(fields: Mapping[str, Any], *, num: int, how: DraftWish) -> Sequence[Step]:
    from homereel.core.request import Request
    from homereel.workflows import drafts

    return drafts(Request.parse(with_paths(fields)), num=num, steps=how.steps, side_share=how.side_share)


def refine_strength(job: Job, given: float | None) -> float | None:
    """As it is given now, else as it was wished with the draft; None leaves it to the workflow."""
    kept = job.extra.get("refine_strength")
    return given if given is not None else None if kept is None else float(kept)


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
        extra={
            **({} if board is None else {"board": board}),
            **({} if step.takes is None else {"takes": step.takes}),
        },
    )


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    """All texts of this name."""
    value = body.get(name, [])
    return [str(each) for each in (value if isinstance(value, list) else [value]) if str(each)]


def _text(body: Mapping[str, Any], name: str) -> str:
    """A form sends texts; of several with one name the last counts."""
    value = body.get(name, "")
    if isinstance(value, list):
        value = value[-1] if value else ""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise InvalidRequest(f"{name}: give it as text", field=name)
    return str(value).strip()
