"""What happens next: a clip that goes on where another ends.

Where the family can, the last latents of the clip are carried over as they are, so that nothing drifts by going through
the decoder and back, and motion goes on; the new clip then holds the old one. Others that go on from footage get the
clip as such. What is left starts from the last frame as a picture: it holds the new part alone, and only the look goes
on, not the motion.
"""

from __future__ import annotations

from typing import Any

from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.core.protocols import ModelFacts
from homereel.workflows.step import Made, Step, Takes

_FROM_PICTURE = (
    "{model} goes on from the last frame alone: the look is kept, not the motion, and the clip holds the new part only"
)


def extend(
    clip: Made,
    *,
    seconds: float | None = None,
    num_frames: int | None = None,
    prompt: str | None = None,
    seed: int | None = None,
    keep_frames: int | None = None,
    steps: int | None = None,
    model: str | None = None,
) -> Step:
    """The clip, and so many `seconds` or `num_frames` more; by default as much as the model makes well at once.

    `prompt` says what happens then, if that is something else; `keep_frames` goes on from an earlier moment: what is
    behind it is dropped. Look at the step's `takes` and `holds_parent` for how it is done. Raises UnsupportedInput for
    a model that can start from nothing.
    """
    from homereel.models.registry import model_facts

    facts = model_facts(model or clip.request.model)
    takes = _way(facts)
    kept = _kept_frames(clip, facts, keep_frames, takes=takes)
    new = _new_frames(clip, facts, seconds=seconds, num_frames=num_frames)
    changes: dict[str, Any] = {
        **_cleared(clip, facts),
        "model": facts.model,
        "prompt": prompt or clip.request.prompt,
        "seed": _next_seed(clip.request.seed) if seed is None else seed,
        "num_frames": new + 1 if takes == "image" else kept + new,
        "extend_from": kept if takes == "extend" else None,
        takes: clip.place,
    }
    request = clip.request.replace(**changes, **({} if steps is None else {"steps": steps, "sigmas": None}))
    return Step(
        name=f"extended-{clip.name}",
        request=request,
        parent=clip.name,
        relation="extension",
        takes=takes,
        notes=(_FROM_PICTURE.format(model=facts.model),) if takes == "image" else (),
    )


def _way(facts: ModelFacts) -> Takes:
    if "extend" in facts.inputs:
        return "extend"
    if {"video", "mask"} <= facts.inputs:
        return "video"
    if "image" in facts.inputs and "last" not in facts.required:
        return "image"
    raise UnsupportedInput(
        f"{facts.model} starts from words alone, so it cannot go on from a clip; give a model that takes a picture",
        field="model",
    )


def _kept_frames(clip: Made, facts: ModelFacts, asked: int | None, *, takes: Takes) -> int:
    """On the grid of the latents: 4n + 1, the nearest at or before."""
    there = clip.request.num_frames or facts.defaults.num_frames
    if asked is None:
        return there
    if takes != "extend":
        raise InvalidRequest(f"{facts.model} goes on from the end only; leave keep_frames out", field="extend_from")
    if not 1 <= asked <= there:
        raise InvalidRequest(f"keep_frames is {asked}, and the clip has 1 to {there} to keep", field="extend_from")
    return (asked - 1) // facts.grid.frame_multiple * facts.grid.frame_multiple + 1


def _new_frames(clip: Made, facts: ModelFacts, *, seconds: float | None, num_frames: int | None) -> int:
    """Whole groups of latents; by default two thirds of a standard clip: the rest of what is seen at once is known."""
    if seconds is not None and num_frames is not None:
        raise InvalidRequest("seconds and num_frames both say how much longer; keep one of them", field="seconds")
    multiple = facts.grid.frame_multiple
    asked: float = 2 * facts.defaults.num_frames / 3
    if seconds is not None:
        asked = seconds * (clip.request.fps or facts.defaults.fps)
    if num_frames is not None:
        asked = num_frames
    if not 0 < asked <= facts.grid.max_frames:
        raise InvalidRequest(
            f"a clip may go on for more than 0 and at most {facts.grid.max_frames} frames; ask for less, and extend "
            "the result again",
            field="seconds",
        )
    return max(1, round(asked / multiple)) * multiple


def _cleared(clip: Made, facts: ModelFacts) -> dict[str, Any]:
    """What the clip was made from is no part of what comes next; another model has its own settings."""
    gone: dict[str, Any] = dict.fromkeys(("image", "last", "video", "mask", "refine", "extend", "extend_from"))
    gone |= {"keyframes": (), "strength": None, "seconds": None}
    if clip.request.model not in (None, facts.model):
        gone |= dict.fromkeys(("guidance", "shift", "sampler", "sigma_max"))
        gone |= {"passes": (), "loras": ()}
    return gone


def _next_seed(seed: int | None) -> int | None:
    """The same noise again would pull what comes next towards what was."""
    from homereel.core.request import MAX_SEED

    return None if seed is None else (seed + 1) % (MAX_SEED + 1)
