"""`homereel models info ID`: one model's words, standard clip, sizes, files and licence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.output import bytes_text, show_json, show_rows

if TYPE_CHECKING:
    from homereel.core.protocols import ModelFacts
    from homereel.models.registry import ModelInfo


def models_info(
    model: Annotated[str, typer.Argument(help="A model's id, as in `homereel models`.", metavar="ID")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object with all that is known.")
    ] = False,
) -> None:
    """Tell of one model: what it understands, its sizes and defaults, its files and licence."""
    from homereel.models.registry import list_models, model_facts, model_info

    known = model_info(model)
    facts = model_facts(known.id) if known.installed else None
    wider = [other.id for other in list_models() if other.open_vocabulary and other.id != known.id]
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
    clip = known.defaults
    yield known.id, known.title
    yield "family", known.family
    yield "takes", ", ".join(task.removesuffix("-to-video") for task in known.tasks)
    yield "installed", f"{'yes' if known.installed else 'no'}, {bytes_text(known.bytes)}"
    yield "licence", f"{known.licence.name} ({known.licence.kind}) {known.licence.url}"
    yield "from", known.repo
    yield "standard clip", f"{clip.width}x{clip.height}, {clip.num_frames} frames at {clip.fps:g} fps"
    yield "settings", f"{clip.steps} steps, guidance {clip.guidance:g}, shift {clip.shift:g}, {clip.sampler}"
    if facts is not None:
        grid = facts.grid
        yield "sizes", f"sides are multiples of {grid.width_multiple} and {grid.height_multiple}"
        yield "lengths", f"frames are {grid.frame_multiple}n + 1"
        yield "files", ", ".join(facts.files())


def _as_dict(known: ModelInfo, facts: ModelFacts | None, *, wider: list[str]) -> dict[str, Any]:
    installed: dict[str, Any] = {}
    if facts is not None:
        files = {name: str(path) for name, path in facts.files().items()}
        installed = {"grid": asdict(facts.grid), "files": files}
    understands_more = [] if known.open_vocabulary else wider
    return {
        **asdict(known),
        "licence": known.licence.model_dump(),
        **installed,
        "models_that_understand_more": understands_more,
    }
