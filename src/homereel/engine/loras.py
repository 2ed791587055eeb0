"""The LoRAs of a request: checked against the model before anything is loaded, then put into each network loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from homereel.core.errors import WeightsError
from homereel.core.protocols import Component, Family
from homereel.core.request import LoraUse, Request
from homereel.models.lora import check_lora, loras_for, settings_for
from homereel.weights.hashes import hash_files
from homereel.weights.lora.apply import apply_loras
from homereel.weights.lora.match import describe_unmatched
from homereel.weights.lora.settings import LoraSettings

DENOISERS = ("transformer", "transformer_2")


@dataclass(frozen=True)
class CheckedLoras:
    """What a request's LoRAs are: the settings that one of them wants, what to warn of, what goes into the record."""

    settings: LoraSettings | None = None
    warnings: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    records: tuple[dict[str, Any], ...] = ()


def check_loras(request: Request, *, family: Family) -> CheckedLoras:
    """Raises WeightsError for a file that is damaged, or of which nothing applies to this model."""
    if not request.loras:
        return CheckedLoras()
    warnings: list[str] = []
    records: list[dict[str, Any]] = []
    hashes = hash_files({str(index): use.path for index, use in enumerate(request.loras)})
    for index, use in enumerate(request.loras):
        check = check_lora(use.path, model=family.model)
        if check.match is not None:
            unmatched = describe_unmatched(check.match)
            if not check.match.changes:
                raise WeightsError(
                    f"{use.path} has nothing that applies to {family.model}: {'; '.join(unmatched[:1])}; "
                    f"`homereel lora check {use.path.name}` tells what it was made for"
                )
            warnings += [f"{use.path.name}: {sentence}" for sentence in unmatched]
        words = check.report.trigger_words
        if words and not any(word.lower() in request.prompt.lower() for word in words):
            warnings.append(
                f"{use.path.name} acts on its trigger words, and the prompt has none: {', '.join(words[:5])}"
            )
        records.append(
            {
                "name": use.path.name,
                "sha256": hashes[str(index)],
                "strength": use.strength,
                "trigger_words": list(words),
            }
        )
    return CheckedLoras(
        settings=settings_for(request.loras),
        warnings=tuple(warnings),
        hashes=tuple(hashes[str(index)] for index in range(len(request.loras))),
        records=tuple(records),
    )


def put_loras(network: Component, uses: Sequence[LoraUse], *, component: str, two_experts: bool) -> None:
    """Merge the LoRAs that are for this network into it; what does not apply was told when they were checked.

    They are not taken out again: the network is loaded anew for other LoRAs, which takes no memory.
    """
    if not uses or component not in DENOISERS:
        return
    chosen = loras_for(
        uses, component="transformer_2" if component == "transformer_2" else "transformer", two_experts=two_experts
    )
    if chosen:
        apply_loras(network, chosen, component=component, undoable=False)
