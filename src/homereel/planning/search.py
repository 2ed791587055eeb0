"""Which passes, and which other ways there are: settings are tried by their cost alone, the fastest one wins.

Two ways that take nearly the same time are a tie, which goes to the more exact one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from homereel.core.errors import DoesNotFit
from homereel.core.machine import Machine
from homereel.core.plan import Plan, Residency
from homereel.core.protocols import ModelFacts
from homereel.planning.cost import Workload, total_seconds
from homereel.planning.costed import with_costs, with_peaks
from homereel.planning.effects import EIGHT_BIT
from homereel.planning.fitting import Limits, fit
from homereel.planning.ledger import Ledger
from homereel.planning.words import Reader

Quality = Literal["exact", "approximate", "distilled"]
Prefer = Literal["speed", "quality"]
CLASSES: tuple[Quality, ...] = ("exact", "approximate", "distilled")
# Times that are closer than this are alike.
_TIE = 0.03
# A lighter way is worth a word from this share of the memory on.
_LIGHTER = 0.75
_SPARSE_LAYOUTS, _LONG_ENOUGH = ("wan", "two streams"), 8192
_FUSED_LAYOUTS = ("wan", "two streams", "joint")
# Linear layers in fp8 want Ada or newer, in int8 Turing or newer; on Blackwell's large chips fp8 is the faster one.
_FP8_FROM, _INT8_FROM = (10, 0), (7, 5)


@dataclass(frozen=True)
class Alternative:
    """Another way to make the clip: what it is good for, how to ask for it, and the plan it has."""

    kind: Literal["faster", "lighter", "more exact"]
    how: str
    plan: Plan


@dataclass(frozen=True)
class Search:
    """Tries ways of making one settled clip of one model on one machine."""

    plan: Plan  # its passes are those that were asked for, or the model's own
    model: ModelFacts
    machine: Machine
    ledger: Ledger | None = None
    read: frozenset[Reader] = frozenset()  # by whom its words were read before

    def best(self, *, quality: Quality, prefer: Prefer = "speed") -> Plan:
        """The fastest within a class of exactness; `prefer` quality takes the most exact way and then the fastest.

        Raises DoesNotFit if none of them does.
        """
        found = list(self._costed(self._pass_sets(quality)))
        if not found:
            return self.costed(self.plan)
        if prefer == "quality":
            least = min(CLASSES.index(_class_of(plan)) for plan in found)
            found = [plan for plan in found if CLASSES.index(_class_of(plan)) == least]
        fastest = min(plan.seconds or 0 for plan in found)
        alike = [plan for plan in found if (plan.seconds or 0) <= fastest * (1 + _TIE)]
        return min(alike, key=lambda plan: (CLASSES.index(_class_of(plan)), len(plan.passes), plan.seconds or 0))

    def costed(self, plan: Plan) -> Plan:
        """Raises DoesNotFit."""
        return with_costs(plan, model=self.model, machine=self.machine, ledger=self.ledger, read=self.read)

    def alternatives(self, chosen: Plan) -> tuple[Alternative, ...]:
        """A faster, a lighter and a more exact way with this model, where there are any."""
        return tuple(self._alternatives(chosen))

    def _alternatives(self, chosen: Plan) -> Iterator[Alternative]:
        others = list(self._costed(self._pass_sets("approximate")))
        if chosen.seconds is not None:
            faster = [plan for plan in others if (plan.seconds or 0) < chosen.seconds * (1 - _TIE)]
            if faster:
                best = min(faster, key=lambda plan: plan.seconds or 0)
                yield Alternative("faster", f"--passes {','.join(best.passes)}", best)
        lighter = self._lighter(chosen)
        if lighter is not None:
            yield lighter
        exact = [plan for plan in others if _class_of(plan) == "exact"]
        if _class_of(chosen) == "approximate" and exact:
            best = min(exact, key=lambda plan: plan.seconds or 0)
            how = f"--passes {','.join(best.passes)}" if best.passes else "--turbo off"
            yield Alternative("more exact", how, best)

    def _lighter(self, chosen: Plan) -> Alternative | None:
        """With blocks that travel, in so much of the GPU's memory that it halves what is taken, or nearly."""
        if self.machine.device != "cuda":
            return None
        work = Workload.of(chosen, model=self.model, machine=self.machine, keeps_all=False, read=self.read)
        factor = chosen.peak_correction
        work = replace(work, peak_factor=factor)
        for share in (0.5, 0.6, _LIGHTER):
            limit = round(chosen.peak_bytes * share)
            found = fit(work, replace(Limits.of(work, now=False), vram_bytes=limit))
            if found is not None:
                plan = replace(
                    chosen,
                    peak_bytes=round(found.vram_bytes * factor),
                    peak_ram_bytes=found.ram_bytes,
                    seconds=total_seconds(found.stages),
                    stages=with_peaks(found.stages, factor=factor, on_gpu=True),
                    residency=None if found.residency == Residency() else found.residency,
                )
                return Alternative("lighter", f"--max-vram {limit / 1e9:.1f}GB", plan)
        return None

    def _costed(self, sets: Sequence[tuple[str, ...]]) -> Iterator[Plan]:
        for passes in sets:
            try:
                yield self.costed(replace(self.plan, passes=passes, exactness=exactness_of(passes)))
            except DoesNotFit:
                continue

    def _pass_sets(self, quality: Quality) -> list[tuple[str, ...]]:
        """What can be put onto this model here, in the one order of passes."""
        blocks, machine = self.model.block_facts, self.machine
        own = [each.split(":")[0] for each in self.plan.passes]
        exact: list[tuple[str, ...]] = [()]
        if (machine.device == "cuda" or machine.dtype == "float32") and blocks.layout in _FUSED_LAYOUTS:
            exact.append(("fused_norms",))
        if machine.device == "cuda" and not machine.limited:
            exact += [(*each, "compile") for each in exact]
        lossy: list[tuple[str, ...]] = [()]
        if blocks.layout in _SPARSE_LAYOUTS and self.plan.num_tokens >= _LONG_ENOUGH:
            lossy.append(("sparse_attention",))
        eight = _eight_bit(machine)
        if eight is not None and not {*own, *EIGHT_BIT} <= {*own}:
            lossy += [(*each, eight) for each in lossy]
        chosen = lossy if quality != "exact" else [()]
        own_set = tuple(self.plan.passes)
        found = [
            _ordered((*own_set, *(each for each in (*one, *two) if each not in own))) for one in chosen for two in exact
        ]
        return list(dict.fromkeys(found))


def exactness_of(passes: Sequence[str]) -> Quality:
    """The class of these passes together."""
    lossy = {"sparse_attention", "step_cache", *EIGHT_BIT}
    return "approximate" if any(each.split(":")[0] in lossy for each in passes) else "exact"


def _class_of(plan: Plan) -> Quality:
    return next(each for each in CLASSES if each == plan.exactness)


def _eight_bit(machine: Machine) -> str | None:
    if machine.device != "cuda" or machine.capability is None or machine.capability < _INT8_FROM:
        return None
    return "fp8" if machine.capability[0] == _FP8_FROM[0] else "int8"


def _ordered(passes: Sequence[str]) -> tuple[str, ...]:
    order = ("sparse_attention", "fused_norms", *EIGHT_BIT, "compile", "step_cache")
    return tuple(sorted(dict.fromkeys(passes), key=lambda each: order.index(each.split(":")[0])))
