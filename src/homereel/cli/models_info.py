"""`homereel models info ID`: one model's words, standard clip, sizes, files and licence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.output import bytes_text, show_json, show_rows

if TYPE_CHECKING:
    from homereel.core.protocols import ModelFacts
    from homereel.models.card import ClipCard
    from homereel.models.model_list import ModelInfo


def models_info(
    model: Annotated[str, typer.Argument(help="A model's id, as in `homereel models`.", metavar="ID")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object with all that is known.")
    ] = False,
) -> None:
    """Tell of one model: what it understands, its sizes and defaults, its files and licence."""
    from homereel.models.model_list import list_models, model_info
    from homereel.models.registry import model_facts

    known = model_info(model)
    facts = model_facts(known.id) if known.installed and known.supported else None
    wider = [other.id for other in list_models() if other.open_vocabulary and other.supported and other.id != known.id]
    if as_json:
        show_json(_as_dict(known, facts, wider=wider))
        return
    show_rows(_rows(known, facts))
    if known.words:
        print("\nIt knows these words:")
        show_rows((f"  {kind}", ", ".join(words)) for kind, words in known.words.items())
        print(f"\nModels that understand any words: {', '.join(wider)}")
    for example in known.examples:
        print(f'  homereel generate "{example}"')


def _rows(known: ModelInfo, facts: ModelFacts | None) -> Iterator[tuple[str, str]]:
    yield known.id, known.title
    yield "family", known.family
    yield "also called", ", ".join(known.aliases)
    yield "takes", ", ".join(task.removesuffix("-to-video") for task in known.tasks)
    yield "makes", "video with sound" if known.sound else "video"
    yield "runnable", _runnable_text(known)
    yield "installed", _installed_text(known)
    yield "GPU memory", f"at least {bytes_text(known.vram_bytes)}, say its makers" if known.vram_bytes else ""
    yield "licence", f"{known.licence.name} ({known.licence.kind}) {known.licence.url}"
    yield "terms", known.licence.terms
    yield "from", known.repo + (" (only with an account on the hub)" if known.gated else "")
    yield from _clip_rows(known.defaults)
    if facts is not None:
        grid = facts.grid
        yield "sizes", f"sides are multiples of {grid.width_multiple} and {grid.height_multiple}"
        yield "lengths", f"frames are {grid.frame_multiple}n + 1"
        yield "files", ", ".join(facts.files())


def _runnable_text(known: ModelInfo) -> str:
    if known.pickled:
        return "once it is imported: take its .pth from the hub, then homereel models import FILE"
    return "yes" if known.supported else "not yet: this version of homereel cannot run it"


def _installed_text(known: ModelInfo) -> str:
    if known.installed:
        return f"yes, {bytes_text(known.bytes or 0)}"
    return f"no, about {bytes_text(known.bytes)} to fetch" if known.bytes else "no, and only the hub knows its size"


def _clip_rows(clip: ClipCard) -> Iterator[tuple[str, str]]:
    if clip.width and clip.height and clip.num_frames and clip.fps:
        yield "standard clip", f"{clip.width}x{clip.height}, {clip.num_frames} frames at {clip.fps:g} fps"
    known = (
        f"{clip.steps} steps" if clip.steps else "",
        f"guidance {clip.guidance:g}" if clip.guidance else "",
        f"shift {clip.shift:g}" if clip.shift else "",
        clip.sampler or "",
    )
    yield "settings", ", ".join(filter(None, known))
    from_tokens = f"; for clips from {clip.passes_from_tokens} tokens on" if clip.passes_from_tokens else ""
    yield "trained with", ", ".join(clip.passes or ()) + from_tokens


def _as_dict(known: ModelInfo, facts: ModelFacts | None, *, wider: list[str]) -> dict[str, Any]:
    installed: dict[str, Any] = {}
    if facts is not None:
        files = {name: str(path) for name, path in facts.files().items()}
        installed = {"grid": asdict(facts.grid), "files": files}
    understands_more = [] if known.open_vocabulary else wider
    return {
        **asdict(known),
        "licence": known.licence.model_dump(),
        "defaults": known.defaults.model_dump(),
        **installed,
        "models_that_understand_more": understands_more,
    }
