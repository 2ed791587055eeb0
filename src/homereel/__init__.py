"""homereel: text, pictures, sound or footage in, finished video out, on the machine its owner has.

    import homereel
    homereel.generate("a red ball bounces on a green floor", seed=7).save("ball.mp4")

Importing this is cheap: what computes is imported when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from homereel.core.errors import HomereelError
    from homereel.core.events import OnProgress, Progress, ShouldStop
    from homereel.core.request import KeyPicture, LoraUse, Request, SamplerName
    from homereel.core.result import Result
    from homereel.engine.session import Session

__version__ = "0.1.0"

__all__ = [
    "HomereelError",
    "KeyPicture",
    "LoraUse",
    "Progress",
    "Request",
    "Result",
    "Session",
    "__version__",
    "generate",
]

_HOMES = {
    "HomereelError": "homereel.core.errors",
    "KeyPicture": "homereel.core.request",
    "LoraUse": "homereel.core.request",
    "Progress": "homereel.core.events",
    "Request": "homereel.core.request",
    "Result": "homereel.core.result",
    "Session": "homereel.engine.session",
}


class RequestOptions(TypedDict, total=False):
    """The fields of a Request besides the prompt."""

    negative_prompt: str
    model: str | None
    width: int | None
    height: int | None
    num_frames: int | None
    seconds: float | None
    fps: float | None
    steps: int | None
    guidance: float | None
    shift: float | None
    sampler: SamplerName | None
    sigma_max: float | None
    sigmas: str | Sequence[float] | None
    seed: int | None
    image: str | Path | None
    last: str | Path | None
    keyframes: Sequence[KeyPicture | Mapping[str, Any]]
    video: str | Path | None
    strength: float | None
    mask: str | Path | None
    refine: str | Path | None
    extend: str | Path | None
    extend_from: int | None
    references: Sequence[str | Path]
    sound: bool
    loras: Sequence[LoraUse | Mapping[str, Any]]
    passes: str | Sequence[str]
    turbo: Literal["off", "safe", "max"] | None


def generate(
    prompt: str | Request,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    session: Session | None = None,
    **options: Unpack[RequestOptions],
) -> Result:
    """Make a clip from a prompt and any fields of a Request, or from a Request.

    A `session` keeps the model loaded between calls. Raises a HomereelError; its message is one line.
    """
    from homereel.core.request import Request
    from homereel.engine.generate import generate as make

    if isinstance(prompt, Request):
        request = prompt.replace(**options) if options else prompt
    else:
        request = Request.parse({"prompt": prompt, **options})
    return make(request, on_progress=on_progress, should_stop=should_stop, session=session)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'homereel' has no attribute {name!r}")
