"""Reads what a request names besides words: pictures before the plan, footage and mask once the length is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from homereel import media
from homereel.core.errors import InvalidRequest
from homereel.core.inputs import Inputs, Pixels, PlacedPicture
from homereel.core.plan import Footage, Plan
from homereel.core.request import Request
from homereel.core.result import frames_sha256
from homereel.engine.kept import SUFFIX, find_kept
from homereel.models.picture import fit_picture, to_frames


@dataclass(frozen=True)
class Sources:
    """The files of one request. Raises MediaError for what cannot be read."""

    request: Request
    takes: frozenset[str]  # kinds that the model takes; others are not read, since the plan refuses them
    pictures: Mapping[str, Pixels] = field(init=False)  # by the name of the field, such as "image" or "keyframes.0"

    def __post_init__(self) -> None:
        request = self.request
        named = {"image": request.image, "last": request.last}
        named |= {f"keyframes.{index}": key.image for index, key in enumerate(request.keyframes)}
        named |= {f"references.{index}": path for index, path in enumerate(request.references)}
        read = {
            name: media.read_image(path)
            for name, path in named.items()
            if path is not None and name.split(".")[0] in self.takes
        }
        object.__setattr__(self, "pictures", read)

    @cached_property
    def footage(self) -> Footage | None:
        """Size and length of the footage, without decoding it."""
        if self.request.video is None or "video" not in self.takes:
            return None
        found = media.probe(self.request.video)
        return Footage(width=found.width, height=found.height, seconds=found.seconds or 0.0)

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """Width and height of what gives the clip its proportions: the footage, else the first picture in time."""
        if self.footage is not None:
            return self.footage.width, self.footage.height
        for name in ("image", "keyframes.0", "last"):
            if name in self.pictures:
                return self.pictures[name].shape[1], self.pictures[name].shape[0]
        return None

    @cached_property
    def extend_from(self) -> int | None:
        """How many frames of another clip this one holds. If the request says so, that clip need not be there yet."""
        request = self.request
        if request.extend is None or "extend" not in self.takes or request.extend_from is not None:
            return request.extend_from
        kept = find_kept(request.extend)
        return media.probe(request.extend).num_frames if kept is None else kept.num_frames

    def read(self, plan: Plan, *, decoder: Callable[[], str]) -> Inputs:
        """Everything in place for a clip of this plan. `decoder` stands for the model's autoencoder."""
        request = self.request
        names = [name for name in self.pictures if not name.startswith("references")]
        frames = {**{"image": 0, "last": plan.num_frames - 1}, **_key_frames(request, plan)}
        placed = sorted((PlacedPicture(frames[name], self.pictures[name]) for name in names), key=lambda one: one.frame)
        inputs = Inputs(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            pictures=tuple(placed),
            references=tuple(pixels for name, pixels in self.pictures.items() if name.startswith("references")),
        )
        if self.footage is not None and request.video is not None:
            inputs = replace(inputs, video=_footage_frames(request.video, plan, footage=self.footage))
        if request.mask is not None and "mask" in self.takes:
            num_frames = plan.num_frames if inputs.video is None else len(inputs.video)
            inputs = replace(inputs, mask=media.read_mask(request.mask, num_frames=num_frames, fps=plan.fps))
        start = request.refine or request.extend
        return inputs if start is None else _with_clip(inputs, start, plan, decoder=decoder())


def _with_clip(inputs: Inputs, place: Path, plan: Plan, *, decoder: str) -> Inputs:
    """What another clip is to be refined or gone on from: its latents, or (if none are kept, or another autoencoder
    made them) its frames, which the model encodes."""
    kept = find_kept(place)
    needed = plan.extend_from or plan.num_frames
    field = "refine" if plan.extend_from is None else "extend"
    if kept is not None and kept.decoder == decoder:
        if kept.num_frames < needed or (plan.extend_from is None and kept.num_frames != needed):
            raise InvalidRequest(f"{field}: the clip has {kept.num_frames} frames, not {needed}", field=field)
        same_size = (kept.width, kept.height) == (plan.width, plan.height)
        if same_size or plan.extend_from is None:
            return replace(inputs, kept=kept.latents_BCTHW)
    if kept is not None and place.name.endswith(SUFFIX):
        raise InvalidRequest(
            f"{field}: {place.name} is of another autoencoder or size than {plan.model} at {plan.width}x{plan.height}; "
            "give the clip itself",
            field=field,
        )
    return replace(inputs, video=_clip_frames(place, plan, num_frames=needed))


def _clip_frames(path: Path, plan: Plan, *, num_frames: int) -> Pixels:
    """Frame for frame as they are, at this plan's size."""
    frames: Pixels = media.read_clip(path, num_frames=num_frames, fit=partial(_fitted, plan=plan)).frames
    return frames


def input_hashes(inputs: Inputs, sources: Sources) -> dict[str, str]:
    """SHA-256 of the pixels of everything that was given, by the name of its field."""
    hashes = {name: frames_sha256(pixels[None]) for name, pixels in sources.pictures.items()}
    request = sources.request
    video = "refine" if request.refine is not None else "extend" if request.extend is not None else "video"
    for name, pixels in ((video, inputs.video), ("mask", inputs.mask)):
        if pixels is not None:
            hashes[name] = frames_sha256(pixels)
    if inputs.kept is not None:
        hashes[video] = hashlib.sha256(inputs.kept.numpy().tobytes()).hexdigest()
    return hashes


def _key_frames(request: Request, plan: Plan) -> dict[str, int]:
    return {f"keyframes.{index}": key.frame_at(plan.fps) for index, key in enumerate(request.keyframes)}


def _footage_frames(path: Path, plan: Plan, *, footage: Footage) -> Pixels:
    """The footage at the clip's pace and size, as much of it as the clip takes."""
    num_frames = min(plan.num_frames, footage.frames_at(plan.fps))
    frames: Pixels = media.read_clip(path, fps=plan.fps, num_frames=num_frames, fit=partial(_fitted, plan=plan)).frames
    return frames


def _fitted(frame: Pixels, *, plan: Plan) -> Pixels:
    fitted: Pixels = to_frames(fit_picture(frame, width=plan.width, height=plan.height)[:, None])[0]
    return fitted
