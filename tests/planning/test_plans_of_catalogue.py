"""Every model of the catalogue on cards and machines of every size: the plans as text, and none above its limits.

After a change of the cost model look at what changed, then write the table anew:

    python -m tests.planning.test_plans_of_catalogue
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from homereel.core.errors import DoesNotFit
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.models.card import ModelCard
from homereel.models.catalogue import CATALOGUE
from homereel.models.published import published_facts
from homereel.models.registry import model_facts
from homereel.planning.costed import with_costs
from homereel.planning.host_bytes import device_need_bytes
from homereel.planning.machine import imagined_gpu
from homereel.planning.plan import plan_clip

GOLDEN = Path(__file__).with_name("plans_of_catalogue.txt")
GB = 10**9
HOST = Machine("cpu", "host", 8, 64 * GB, None, bf16_fast=False)
SIZES = {"480p": (832, 480), "720p": (1280, 720)}
CARDS, MEMORIES = (8, 12, 16, 24, 80), (16, 32, 64)


def facts_of(card: ModelCard) -> ModelFacts:
    return published_facts(card) if card.repo else model_facts(card.id)


def plan_of(facts: ModelFacts, *, size: str, vram: int, ram: int) -> Plan:
    """Five seconds. Raises DoesNotFit."""
    width, height = SIZES[size]
    pictures = dict.fromkeys(facts.required, "picture.png")
    request = Request.parse({"prompt": "a ball", "width": width, "height": height, "seconds": 5, "seed": 0, **pictures})
    machine = imagined_gpu(HOST, vram_bytes=vram * GB).granting(ram_bytes=ram * GB)
    return with_costs(plan_clip(request, model=facts, machine=machine, fresh_seed=0), model=facts, machine=machine)


def line_of(card: ModelCard, facts: ModelFacts, *, size: str, vram: int, ram: int) -> str:
    begin = f"{card.id:<42}{size} {vram:>2} {ram:>2}  "
    try:
        plan = plan_of(facts, size=size, vram=vram, ram=ram)
    except DoesNotFit as error:
        return begin + "- " + str(error).partition(" needs ")[2]
    assert device_need_bytes(plan.peak_vram_bytes) <= vram * GB, begin
    assert plan.peak_ram_bytes <= ram * GB, begin
    place = plan.residency
    told = ["all"]
    if place is not None:
        blocks = "all" if place.resident_blocks is None else f"{place.resident_blocks} {place.source}"
        tiles = [] if place.vae_tiles is None else ["tiles " + "x".join(str(side) for side in place.vae_tiles)]
        told = [blocks, f"words {place.text_encoder}", *tiles]
    return f"{begin}{plan.peak_vram_bytes / GB:.2f} {plan.peak_ram_bytes / GB:.2f}  {', '.join(told)}"


def table(cards: Iterator[ModelCard]) -> Iterator[str]:
    for card in cards:
        facts = facts_of(card)
        for size, vram, ram in itertools.product(SIZES, CARDS, MEMORIES):
            yield line_of(card, facts, size=size, vram=vram, ram=ram)


@pytest.mark.parametrize("card", [pytest.param(card, id=card.id) for card in CATALOGUE])
def test_plans_are_those_of_the_table(card: ModelCard) -> None:
    known = [line for line in GOLDEN.read_text().splitlines() if line.split()[0] == card.id]
    assert list(table(iter([card]))) == known


@pytest.mark.parametrize("model", ["hunyuanvideo-1.5-480p-t2v", "wan2.1-t2v-14b", "wan2.2-t2v-a14b"])
def test_large_models_have_a_plan_on_a_small_card(model: str) -> None:
    facts = facts_of(next(card for card in CATALOGUE if card.id == model))
    plan = plan_of(facts, size="480p", vram=8, ram=32)
    assert plan.residency is not None
    assert plan.residency.resident_blocks is not None
    assert plan.num_frames == (121 if "hunyuan" in model else 81)
    assert plan.rungs


def test_what_cannot_fit_names_the_smallest_change() -> None:
    facts = facts_of(next(card for card in CATALOGUE if card.id == "wan2.1-t2v-14b"))
    with pytest.raises(DoesNotFit, match=r"what would fit: \d+x\d+, or \d+ frames") as caught:
        plan_of(facts, size="720p", vram=8, ram=32)
    assert "a GPU with 8 GB has 8.0" in str(caught.value)


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(table(iter(CATALOGUE))) + "\n")
