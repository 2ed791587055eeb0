"""Runs the steps of a workflow in this process, one after the other: what a job queue does for a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from homereel import media
from homereel.core.errors import InvalidRequest
from homereel.core.request import Request
from homereel.core.result import FiledClip
from homereel.workflows.film import write_last_frame
from homereel.workflows.film_record import film_parts
from homereel.workflows.step import Made, Step


class MakeClip(Protocol):
    """Makes one clip of a step's settled request and says where it lies, its latents beside it: the engine's
    `generate_file`, with whatever a caller wants to be told of it.
    """

    def __call__(self, step: Step, request: Request) -> FiledClip: ...


def run_steps(steps: Sequence[Step], *, make: MakeClip) -> Iterator[tuple[Step, FiledClip]]:
    """Each step with the clip that was made of it, as soon as that is there. A step that comes from an earlier one gets
    its clip's path. Raises what `make` raises; then what was made before stays.
    """
    places: dict[str, Path] = {}
    for step in steps:
        clip = make(step, settled(step, places))
        places[step.name] = clip.path
        yield step, clip


def settled(step: Step, places: Mapping[str, Path]) -> Request:
    """The request with paths of files; where it is a clip's last frame that is wanted, that is put beside the clip."""
    request = step.request_from(places.get(step.parent or ""))
    if step.takes != "image" or request.image is None:
        return request
    return request.replace(
        image=write_last_frame(request.image, request.image.with_name(f"{request.image.name}.last.png"))
    )


def read_made(path: str | Path, *, prompt: str | None = None, model: str | None = None) -> Made:
    """A file as a clip to go on from. One that homereel did not make tells no prompt, so that it must be given.

    `model` is then the one that shall go on from it. Raises UnreadableMedia, or InvalidRequest if a prompt is needed.
    """
    path = Path(path)
    look = media.probe(path)
    if look.record is not None and not look.record["homereel"].get("private") and film_parts(look.record) is None:
        return Made.of_record(look.record, place=path)
    if prompt is None:
        raise InvalidRequest(
            f"{path.name} does not tell how it was made; say what it shows with --prompt", field="prompt"
        )
    return Made(path.stem, path, _request_of(look, prompt=prompt, model=model))


def _request_of(look: media.Probe, *, prompt: str, model: str | None) -> Request:
    """What a model's grid allows of footage: the nearest size, and as many frames as make whole groups."""
    from homereel.models.registry import model_facts
    from homereel.planning.grid import nearest_size

    facts = model_facts(model)
    width, height = nearest_size(look.width / look.height, area=look.width * look.height, grid=facts.grid)
    multiple = facts.grid.frame_multiple
    num_frames = (min(look.num_frames, facts.grid.max_frames) - 1) // multiple * multiple + 1
    return Request(prompt=prompt, model=facts.model, width=width, height=height, num_frames=num_frames, fps=look.fps)
