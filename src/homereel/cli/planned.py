"""From a wish to its plan without weights or torch: for models that are here, and for those that are not yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from homereel.cli.wish import Wish, read_request, with_size
from homereel.core.errors import HomereelError

if TYPE_CHECKING:
    from homereel.core.machine import Machine
    from homereel.core.plan import Footage, Plan
    from homereel.core.protocols import ModelFacts
    from homereel.core.request import Request
    from homereel.models.card import ModelCard
    from homereel.planning.search import Alternative, Quality, Search

# So many other models are shown.
_OTHERS = 3


@dataclass(frozen=True)
class OtherModel:
    """A model that would make the clip, and what it would take."""

    model: str
    plan: Plan
    installed: bool


@dataclass(frozen=True)
class Planned:
    """A plan, and what a user may choose instead of it. `card` is that of a model that is not here."""

    plan: Plan
    machine: Machine
    card: ModelCard | None
    alternatives: tuple[Alternative, ...] = ()
    others: tuple[OtherModel, ...] = ()


def plan_wish(wish: Wish, *, alternatives: bool) -> Planned:
    """Raises DoesNotFit if nothing makes it fit, and whatever else `generate` would raise before it begins."""
    from homereel.core.environment import read_environment
    from homereel.models.published import plannable_facts
    from homereel.planning.ledger import Ledger
    from homereel.planning.search import Search
    from homereel.planning.words import read_before
    from homereel.weights.word_store import WordStore

    request, machine = read_request(wish), wish.limits.machine()
    facts, card = plannable_facts(request.model)
    ledger = Ledger.open(read_environment().home)
    request = with_size(request, wish, facts=facts)
    settled = _settled(request, facts=facts, machine=machine)
    read = read_before(WordStore.open(), request=request, plan=settled, model=facts, machine=machine)
    search = Search(settled, facts, machine, ledger, read)
    plan = _chosen(search, request, wish=wish)
    if not alternatives:
        return Planned(plan, machine, card)
    others = tuple(_others(request, wish=wish, plan=plan, machine=machine))
    return Planned(plan, machine, card, search.alternatives(plan), others)


def _settled(request: Request, *, facts: ModelFacts, machine: Machine) -> Plan:
    """Before its cost is known; with the passes that were named, or the model's own."""
    from homereel.models.lora import settings_for
    from homereel.models.registry import models_for_input
    from homereel.planning.plan import plan_clip
    from homereel.planning.search import exactness_of

    size, footage = _given(request, takes=facts.inputs)
    plan = plan_clip(
        request,
        model=facts,
        machine=machine,
        fresh_seed=0,
        picture_size=size,
        footage=footage,
        models_for=models_for_input,
        lora_settings=settings_for(request.loras),
    )
    own = () if request.turbo == "off" else facts.defaults.passes_for(plan.num_tokens)
    if machine.device == "cpu":
        own = tuple(each for each in own if each != "int8_block")  # layers are unpacked when they are loaded
    passes = tuple(request.passes or own)
    return replace(plan, passes=passes, exactness=exactness_of(passes))


def _given(request: Request, *, takes: frozenset[str]) -> tuple[tuple[int, int] | None, Footage | None]:
    """The size that pictures or footage give the clip, and the footage's length."""
    from homereel import media
    from homereel.core.plan import Footage

    if request.video is not None and "video" in takes:
        found = media.probe(request.video)
        return (found.width, found.height), Footage(found.width, found.height, found.seconds or 0.0)
    first = request.image or (request.keyframes[0].image if request.keyframes else None) or request.last
    if first is None or not {"image", "keyframes", "last"} & takes:
        return None, None
    pixels = media.read_image(first)
    return (pixels.shape[1], pixels.shape[0]), None


def _chosen(search: Search, request: Request, *, wish: Wish) -> Plan:
    """As named; else as --quality, --prefer or --turbo let it be searched."""
    limits = wish.limits
    levels: dict[str | None, Quality] = {"safe": "exact", "max": "approximate"}
    if request.passes or (not limits.searches and request.turbo not in levels):
        return search.costed(search.plan)
    quality: Quality = limits.quality or levels.get(
        request.turbo, "approximate" if limits.prefer == "speed" else "exact"
    )
    return search.best(quality=quality, prefer=limits.prefer or "speed")


def _others(request: Request, *, wish: Wish, plan: Plan, machine: Machine) -> Iterator[OtherModel]:
    """Of sisters, and of models that need few steps, the fastest ones and the one that needs least memory."""
    from homereel.models.catalogue import CATALOGUE
    from homereel.models.published import plannable_facts, published_facts
    from homereel.models.registry import model_folder
    from homereel.planning.search import Search

    found: list[OtherModel] = []
    for card in CATALOGUE:
        alike = card.family == plan.family or card.defaults.guidance == 1
        if not alike or card.id == plan.model or "text-to-video" not in card.tasks or request.given:
            continue
        installed = model_folder(card.id) is not None
        try:
            facts = plannable_facts(card.id)[0] if installed else published_facts(card)
            asked = with_size(_without_own(request), wish, facts=facts)
            settled = _settled(asked, facts=facts, machine=machine)
            found.append(OtherModel(card.id, Search(settled, facts, machine).costed(settled), installed))
        except HomereelError:
            continue  # it cannot make this clip, or not here
    found.sort(key=lambda other: other.plan.seconds or 0)
    shown = found[:_OTHERS]
    if found:
        lightest = min(found, key=lambda other: other.plan.peak_bytes)
        shown += [] if lightest in shown else [lightest]
    yield from shown


def _without_own(request: Request) -> Request:
    """The same wish for another model, whose steps and guidance are its own."""
    return request.replace(
        model=None, steps=None, guidance=None, shift=None, sampler=None, sigmas=None, passes=(), loras=()
    )
