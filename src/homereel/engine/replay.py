"""Makes a file again from its own record, and says whether it is exact, close or changed, and why."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import InvalidRequest, UnreadableMedia
from homereel.core.events import OnProgress, ShouldStop
from homereel.core.request import Request
from homereel.core.result import Result
from homereel.engine.generate import DEFAULT_QUALITY, generate
from homereel.engine.record import software_versions
from homereel.engine.session import Session

CLOSE_DB = 35.0
_SETTINGS = (
    "model", "width", "height", "num_frames", "fps", "steps", "guidance", "shift", "sampler", "seed",
)  # fmt: skip
# What a record's request says, and the plan does not.
_GIVEN = (
    *("prompt", "negative_prompt", "image", "last", "keyframes"),
    *("video", "strength", "mask", "references", "sound", "loras", "refine", "extend", "extend_from"),
)


_INPUT_NAMES = {
    "image": "the first picture",
    "last": "the last picture",
    "keyframes": "a picture in between",
    "video": "the footage",
    "mask": "the mask",
    "references": "a picture to refer to",
    "refine": "the clip that is refined",
    "extend": "the clip that is gone on from",
    "loras": "a LoRA",
    "passes": "the weights of a pass",
}


@dataclass(frozen=True)
class Verdict:
    """exact: the same frames, and the file shows just these. close: at least 35 dB. changed: less, or another
    shape.

    `psnr` compares what the file shows with what homereel would write now; None where every pixel is the
    same, or where they cannot be compared. `reasons` say what differs; empty if exact.
    """

    verdict: Literal["exact", "close", "changed"]
    psnr: float | None
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON would have it."""
        return {**asdict(self), "reasons": list(self.reasons)}


def replay(
    path: str | Path,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    session: Session | None = None,
    save_to: str | Path | None = None,
) -> Verdict:
    """Generate the clip of `path` again, from the record that it carries; `save_to` keeps the new clip.

    Raises UnreadableMedia if it carries none, InvalidRequest if the record cannot be followed (its private
    parts were left out, or it asks for what is not allowed), and all that `generate` raises.
    """
    record = media.read_record(path)
    if record is None:
        raise UnreadableMedia(f"{path} carries no record of how it was made; only homereel's own files do")
    inner = record["homereel"]
    if save_to is not None:
        media.check_target(save_to)
    shown = _look(Path(path))
    result = generate(
        _request_again(inner, path=path), on_progress=on_progress, should_stop=should_stop, session=session
    )
    if save_to is not None:
        result.save(save_to, quality=_quality(inner))
    with tempfile.TemporaryDirectory() as folder:
        again = _look(_write_alike(result, Path(path), Path(folder), inner=inner))
    return _judge(inner, result, shown=shown, again=again)


@dataclass(frozen=True)
class _Look:
    """What a file shows: its decoded frames and their pace (0 for a still)."""

    frames: NDArray[np.uint8]
    fps: float


def _look(path: Path) -> _Look:
    if path.suffix.lower() == ".png" and "%" not in path.name:
        return _Look(media.read_image(path)[None], 0)
    clip = media.read_clip(path)
    return _Look(clip.frames, clip.fps)


def _request_again(inner: Mapping[str, Any], *, path: str | Path) -> Request:
    asked, resolved = inner.get("request") or {}, inner.get("resolved") or {}
    if inner.get("film"):
        raise InvalidRequest(
            f"{path} is a film, joined of {len(inner['film'].get('parts') or ())} clips, and was not made in one go; "
            "replay the clips' own files"
        )
    if inner.get("private") or "prompt" not in asked or not all(name in resolved for name in _SETTINGS):
        raise InvalidRequest(f"{path} has a record without its prompt or settings; it cannot be made again")
    settings = {name: resolved[name] for name in _SETTINGS}
    if resolved.get("guidance_2") not in (None, resolved["guidance"]):
        settings["guidance"] = asked.get("guidance")  # each expert has its own, which a request cannot say
    if resolved.get("sigmas"):
        settings["sigmas"] = resolved["sigmas"]  # also those that a LoRA or the model brought
    given = {name: asked[name] for name in _GIVEN if asked.get(name) is not None}
    given["passes"] = resolved.get("passes") or ()  # also those that turbo or the model chose there
    given["turbo"] = "off"  # and no others
    return Request.parse({**settings, **given})


def _write_alike(result: Result, path: Path, folder: Path, *, inner: Mapping[str, Any]) -> Path:
    """The clip made again, written as the file was."""
    is_folder = path.is_dir() or "%" in path.name
    target = folder / ("frames" if is_folder else f"again{path.suffix.lower()}")
    if is_folder:
        target.mkdir()
    return result.save(target, quality=_quality(inner))


def _quality(inner: Mapping[str, Any]) -> int:
    """The quality that the file was encoded with, as far as its record is to be believed."""
    quality = (inner.get("encoding") or {}).get("quality")
    return quality if isinstance(quality, int) and 0 <= quality <= 100 else DEFAULT_QUALITY


def _judge(inner: Mapping[str, Any], result: Result, *, shown: _Look, again: _Look) -> Verdict:
    same_frames = result.frames_sha256 == inner.get("frames_sha256")
    same_sound = result.sound_sha256 == inner.get("sound_sha256")
    same_file = shown.frames.shape == again.frames.shape and bool(np.array_equal(shown.frames, again.frames))
    same_pace = math.isclose(shown.fps, again.fps, rel_tol=0.01)
    if same_frames and same_sound and same_file and same_pace:
        return Verdict("exact", None, ())
    reasons = _differences(inner, result)
    if same_frames and not same_file:
        reasons.append("the file does not show what homereel wrote: it was edited or encoded again")
    if same_frames and not same_sound:
        reasons.append("the pictures are the same, the sound is not")
    if not same_pace:
        reasons.append(f"the file shows {shown.fps:g} frames a second, made again it shows {again.fps:g}")
    if not reasons:
        reasons.append("the same settings give other frames here, and the record does not say why")
    if shown.frames.shape != again.frames.shape:
        reasons.append(f"the file is {_size(shown.frames)}, made again it is {_size(again.frames)}")
        return Verdict("changed", None, tuple(reasons))
    if same_file:
        return Verdict("close", None, tuple(reasons))
    decibels = media.psnr(shown.frames, again.frames)
    return Verdict("close" if decibels >= CLOSE_DB else "changed", round(decibels, 2), tuple(reasons))


def _differences(inner: Mapping[str, Any], result: Result) -> list[str]:
    """What was otherwise when the file was made: settings, model, picture, software, machine."""
    now = result.record["homereel"]
    told = []
    for name in (*_SETTINGS, "sigmas"):
        then = (inner.get("resolved") or {}).get(name)
        if then != now["resolved"][name]:
            told.append(f"{name} was {then}, is {now['resolved'][name]}")
    files = (inner.get("model") or {}).get("files") or {}
    changed = sorted(name for name in now["model"]["files"] if files.get(name) != now["model"]["files"][name])
    if changed:
        told.append(f"the model's files differ: {', '.join(changed)}")
    then_given, now_given = inner.get("inputs") or {}, now["inputs"]
    for name in sorted({*then_given, *now_given}):
        if then_given.get(name) != now_given.get(name):
            told.append(f"{_INPUT_NAMES.get(name.split('.')[0], name)} is another one")
    versions = {"homereel": inner.get("version"), **(inner.get("software") or {})}
    for name, version in {"homereel": now["version"], **software_versions()}.items():
        if versions.get(name) != version:
            told.append(f"{name} was {versions.get(name)}, is {version}")
    then, here = inner.get("machine") or {}, now["machine"]
    told += [f"{name} was {then.get(name)}, is {here[name]}" for name in here if then.get(name) != here[name]]
    return told


def _size(frames: NDArray[np.uint8]) -> str:
    return f"{frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}"
