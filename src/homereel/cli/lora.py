"""`homereel lora check FILE`: the LoRA doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.output import bytes_text, show_json, show_rows

if TYPE_CHECKING:
    from homereel.models.lora import LoraCheck
    from homereel.weights.lora.report import LoraReport

_EXPERTS = {"transformer": "the one for much noise", "transformer_2": "the one for little noise"}

lora = typer.Typer(name="lora", help="Small files that teach a model something: look at them.", no_args_is_help=True)


@lora.callback()
def common() -> None:
    """Small files that teach a model something: look at them."""


@lora.command("check")
def check(
    file: Annotated[str, typer.Argument(help="A LoRA as a .safetensors file.", metavar="FILE")],
    *,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="Compare it with this model, by its id or folder.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object with all that is known.")
    ] = False,
) -> None:
    """Tell what a LoRA is, which models it fits, and what of it would apply. Ends with 1 if nothing would."""
    from homereel.models.lora import check_lora
    from homereel.weights.lora.match import describe_unmatched

    found = check_lora(file, model=model)
    problems = describe_unmatched(found.match) if found.match else ()
    if as_json:
        show_json(_as_dict(found, problems=problems))
    else:
        show_rows([*_file_rows(found.report), *_use_rows(found), *_match_rows(found)])
        for problem in problems:
            show_rows([("  -", problem)])
    if not found.usable:
        raise typer.Exit(1)


def _file_rows(report: LoraReport) -> Iterator[tuple[str, str]]:
    yield "file", report.path
    yield "title", report.title
    yield "author", report.author
    yield "format", report.format
    reasons = f" ({'; '.join(report.reasons)})" if report.reasons else ""
    yield "made for", report.base + reasons
    yield "trained on", report.base_model
    yield "rank", ", ".join(map(str, report.ranks))
    yield "alpha", ", ".join(f"{alpha:g}" for alpha in report.alphas)
    whole = f", {report.num_whole} of them added whole" if report.num_whole else ""
    yield "holds", f"{report.num_layers} layers, {report.num_tensors} tensors{whole}; {report.dtype}"
    yield "size", bytes_text(report.bytes)
    yield "trigger words", ", ".join(report.trigger_words)
    yield "frequent words", ", ".join(report.tags)


def _use_rows(found: LoraCheck) -> Iterator[tuple[str, str]]:
    yield "may fit", ", ".join(found.candidates) or "none of the models that homereel knows"
    if found.expert:
        yield "expert", f"{_EXPERTS[found.expert]} ({found.expert})"
    settings = found.settings
    if settings:
        values = (
            f"{settings.steps} steps" if settings.steps else "",
            f"guidance {settings.guidance:g}" if settings.guidance else "",
            f"shift {settings.shift:g}" if settings.shift else "",
            settings.sampler or "",
        )
        yield "few steps", f"{settings.name}: {', '.join(filter(None, values))}"
    if found.report.methods:
        yield "problem", f"it uses {' and '.join(found.report.methods)}, which cannot be applied; plain LoRA can"


def _match_rows(found: LoraCheck) -> Iterator[tuple[str, str]]:
    if found.match is None:
        yield "applies", found.how
        return
    match = found.match
    other = f", {len(match.elsewhere)} are for the other expert" if match.elsewhere else ""
    yield (
        "applies",
        f"{len(match.matched)} of {found.report.num_tensors} tensors{other}, to {match.num_parameters} weights of "
        f"{found.model} (by {found.how})",
    )


def _as_dict(found: LoraCheck, *, problems: tuple[str, ...]) -> dict[str, Any]:
    comparison: dict[str, Any] = {"model": found.model or None, "how": found.how}
    if found.match is not None:
        comparison |= {
            "matched": list(found.match.matched),
            "unmatched": [asdict(entry) for entry in found.match.unmatched],
            "other_expert": list(found.match.elsewhere),
            "num_weights": found.match.num_parameters,
            "problems": list(problems),
        }
    return {
        **asdict(found.report),
        "expert": found.expert,
        "settings": asdict(found.settings) if found.settings else None,
        "candidates": list(found.candidates),
        "usable": found.usable,
        "comparison": comparison,
    }
