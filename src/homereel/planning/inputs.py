"""Whether a model takes what a request brings besides words, and which frames the pictures are for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.core.inputs import CLIP_OPTIONS, OPTIONS
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request

# So many models are named in a message.
SHOWN = 4
_NAMES = {
    "image": ("a first picture", "picture"),
    "last": ("a last picture", "last picture"),
    "keyframes": ("pictures in between", "pictures in between"),
    "video": ("footage", "footage"),
    "mask": ("a mask", "mask"),
    "references": ("pictures to refer to", "pictures to refer to"),
}
_NO_LATENTS = {
    "refine": "cannot start from another clip's latents; a Wan model can, and a model for footage takes the clip as "
    "--video",
    "extend": "cannot go on from another clip's latents; `homereel extend` goes on from its last frame where the model "
    "takes a picture",
}


def check_inputs(request: Request, *, model: ModelFacts, models_for: Callable[[str], tuple[str, ...]]) -> None:
    """Raises UnsupportedInput for what the model does not take, naming models that do, or for what it lacks."""
    for kind in request.given:
        if kind in CLIP_OPTIONS and kind not in model.inputs:
            raise UnsupportedInput(f"{model.model} {_NO_LATENTS[kind]}", field=kind)
        if kind not in model.inputs:
            others = _few(models_for(kind)) or "none known"
            raise UnsupportedInput(f"{model.model} takes no {_NAMES[kind][1]}; models that do: {others}", field=kind)
    for kind in OPTIONS:
        if kind in model.required and kind not in request.given:
            raise UnsupportedInput(
                f"{model.model} starts from {_NAMES[kind][0]}; give one with {OPTIONS[kind]} FILE, "
                f"or choose a model for words alone: {_few(models_for('text'))}",
                field=kind,
            )


def place_pictures(request: Request, *, fps: float, num_frames: int) -> tuple[int, ...]:
    """The frames that pictures are given for, in order. Raises InvalidRequest if one is outside, or taken twice."""
    frames = [key.frame_at(fps) for key in request.keyframes]
    for key, frame in zip(request.keyframes, frames, strict=True):
        if frame >= num_frames:
            raise InvalidRequest(
                f"keyframes: {key.image.name} is for frame {frame} ({frame / fps:.2f} s), "
                f"but the last one is {num_frames - 1} ({(num_frames - 1) / fps:.2f} s); give an earlier time",
                field="keyframes",
            )
    frames += [0] * (request.image is not None) + [num_frames - 1] * (request.last is not None)
    twice = [frame for frame, count in Counter(frames).items() if count > 1]
    if twice:
        raise InvalidRequest(
            f"keyframes: two pictures are for frame {twice[0]}; give each its own time, or a longer clip",
            field="keyframes",
        )
    return tuple(sorted(frames))


def _few(names: tuple[str, ...]) -> str:
    """The first of them, for a message of one line."""
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
