"""`homereel info`: what is in a file, and the recipe that it carries."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.output import bytes_text, seconds_text, show_json, show_rows

if TYPE_CHECKING:
    from homereel.media import Probe, SoundTrack

_SETTINGS = ("fps", "steps", "guidance", "shift", "sampler", "seed")


def info(
    file: Annotated[str, typer.Argument(help="A clip, a picture, or a folder of frames.", metavar="FILE")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object, with the whole record.")
    ] = False,
) -> None:
    """Tell what is in a file, and how it was made."""
    from homereel.media import probe

    found = probe(file)
    if as_json:
        show_json({"file": file, **asdict(found)})
        return
    show_rows([("file", file), *_content(found)])
    print()
    if found.record is None:
        print("It carries no record of how it was made.")
    else:
        show_rows(_recipe(found.record["homereel"], file=file))


def _content(found: Probe) -> Iterator[tuple[str, str]]:
    kind = found.kind if found.kind == found.codec else f"{found.kind} ({found.codec})"
    yield "kind", f"{kind}, {bytes_text(found.size_bytes)}"
    yield "size", f"{found.width}x{found.height}"
    if found.fps:
        yield "length", f"{seconds_text(found.seconds or 0)}: {found.num_frames} frames at {found.fps:g} fps"
    if found.sound:
        yield "sound", _sound(found.sound)


def _sound(track: SoundTrack) -> str:
    """What the file tells of it, which is not always all."""
    channels = {None: "", 1: "mono", 2: "stereo"}.get(track.num_channels, f"{track.num_channels} channels")
    rate = f"{track.rate / 1000:g} kHz" if track.rate else ""
    length = "" if track.seconds is None else seconds_text(track.seconds)
    return ", ".join(part for part in (track.codec, channels, rate, length) if part)


def _recipe(inner: Mapping[str, Any], *, file: str) -> Iterator[tuple[str, str]]:
    """The record was checked for its types when it was read; what is missing is left out."""
    asked, settled = inner.get("request") or {}, inner.get("resolved") or {}
    if inner.get("film"):
        yield from _film(inner)
        return
    yield "prompt", str(asked.get("prompt") or "")
    yield "negative", str(asked.get("negative_prompt") or "")
    yield "made from", " ".join(_inputs(asked))
    yield "model", str((inner.get("model") or {}).get("id") or "")
    yield "settings", ", ".join(f"{name} {_plain(settled[name])}" for name in _SETTINGS if name in settled)
    yield "passes", ", ".join(map(str, settled.get("passes") or ()))
    yield "made", f"{inner.get('created', '')} by homereel {inner.get('version', '')}".strip()
    yield "machine", str((inner.get("machine") or {}).get("name") or "")
    yield "generated", "yes, by a model" if inner.get("ai_generated") else ""
    if inner.get("private") or "prompt" not in asked:
        yield "again", "not possible: the private parts of its record were left out"
    else:
        yield "again", f"homereel replay {shlex.quote(file)}"
        yield "as a command", _command(asked, settled)


def _film(inner: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Clips that were joined: each with what makes it again."""
    film = inner["film"]
    yield "title", str(film.get("title") or "")
    yield "models", ", ".join(map(str, film.get("models") or ()))
    for number, part in enumerate(film.get("parts") or (), start=1):
        recipe = part.get("recipe") or {}
        settings = [f"{name} {_plain(recipe[name])}" for name in ("steps", "seed") if name in recipe]
        words = [str(recipe.get("prompt") or "a clip without a recipe"), *settings]
        yield f"clip {number}", ", ".join([*words, f"{_plain(part.get('num_frames', 0))} frames"])
    yield "joined", f"{inner.get('created', '')} by homereel {inner.get('version', '')}".strip()
    yield "generated", "yes, by a model" if inner.get("ai_generated") else ""
    yield "again", "not as one: make its clips again, and join them"


def _command(asked: Mapping[str, Any], settled: Mapping[str, Any]) -> str:
    words = ["homereel", "generate", str(asked["prompt"])]
    if "width" in settled and "height" in settled:
        words += ["--size", f"{_plain(settled['width'])}x{_plain(settled['height'])}"]
    options = {"model": "--model", "num_frames": "--frames", **{name: f"--{name}" for name in _SETTINGS}}
    for name, option in options.items():
        if settled.get(name) is not None:
            words += [option, _plain(settled[name])]
    if settled.get("sigmas"):
        words += ["--sigmas", ",".join(map(str, settled["sigmas"]))]
    if asked.get("negative_prompt"):
        words += ["--negative", str(asked["negative_prompt"])]
    words += _inputs(asked)
    return shlex.join(words if asked.get("sound", True) else [*words, "--no-audio"])


def _inputs(asked: Mapping[str, Any]) -> list[str]:
    """What a clip was made from besides words, as options of `generate`."""
    words: list[str] = []
    for name in ("image", "last", "video", "strength", "mask"):
        if asked.get(name) is not None:
            words += [f"--{name}", _plain(asked[name])]
    for key in asked.get("keyframes") or ():
        time = f"{_plain(key['seconds'])}s" if key.get("seconds") is not None else _plain(key.get("frame", 0))
        words += ["--keyframe", f"{time}={key['image']}"]
    for path in asked.get("references") or ():
        words += ["--reference", path]
    for lora in asked.get("loras") or ():
        words += ["--lora", f"{lora['path']}:{_plain(lora.get('strength', 1.0))}"]
    return words


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
