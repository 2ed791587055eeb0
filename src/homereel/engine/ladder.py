"""The ladder: when memory runs out in the midst of a clip, free all, give something up, and go on from the last step.

A plan lists its rungs, each a change of where weights lie or in what pieces the decoder works. None of them changes
which clip it is, so a state saved above goes on below. What was changed is told as a warning of the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homereel.core.errors import RanOutOfMemory
from homereel.core.plan import Plan, Rung
from homereel.core.protocols import Conditions, Family, Pass, Use
from homereel.core.shortage import is_out_of_memory
from homereel.core.sound import Sound
from homereel.engine.memory import HostMemoryShort, check_host, give_back
from homereel.engine.passes import can_be_taken_up
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState

Stage: TypeAlias = Literal["text", "denoise", "sound", "decode"]
OnState: TypeAlias = Callable[[DenoiseState], None]
_ALONE = "each part of the model loaded alone"
# Which fields of Residency bear on which stage.
_BEARS_ON: dict[Stage, frozenset[str]] = {
    "text": frozenset({"text_encoder"}),
    "denoise": frozenset({"resident_blocks", "source"}),
    "sound": frozenset(),  # only what else is loaded could make room for it
    "decode": frozenset({"vae_tiles"}),
}
_NAMES: dict[Stage, str] = {
    "text": "reading the words",
    "denoise": "denoising",
    "sound": "decoding the sound",
    "decode": "decoding",
}


class Climber(Protocol):
    """What the ladder needs of a clip; `plan` is what it goes by from now on."""

    plan: Plan
    family: Family
    session: Session
    passes: tuple[Pass, ...]
    keep_all: bool

    def place(self) -> None: ...

    def encode(self) -> Conditions: ...

    def denoise(self, resume: DenoiseState | None, *, conditions: Conditions, on_state: OnState | None) -> Tensor: ...


@dataclass
class Ladder:
    """One clip's way down; `on_plan` is told the plan again after each step."""

    clip: Climber
    on_plan: Callable[[Plan], None] | None = None

    def denoised(self, resume: DenoiseState | None, *, on_state: OnState | None) -> Tensor:
        """Encode and denoise. Raises RanOutOfMemory when there is nothing left to give up."""
        clip, last, conditions = self.clip, resume, None
        at: Stage = "text"

        def keep(state: DenoiseState) -> None:
            nonlocal last
            last = state
            if on_state is not None:
                on_state(state)
            self._watch()

        while True:
            try:
                if conditions is None:
                    at = "text"
                    conditions = clip.encode()
                    self._watch()
                at = "denoise"
                return clip.denoise(last, conditions=conditions, on_state=keep)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                short = _Short.of(error, at)
            # Only here, where the error is gone, is nothing held by the frames that it went through.
            last = _on_host(last) if can_be_taken_up(clip.passes) else resume
            self.step_down(short)

    def sound(self, decode: Callable[[], Sound | None]) -> Sound | None:
        """What `decode` gives; once more, with nothing else loaded, if memory runs out. Raises RanOutOfMemory."""
        while True:
            try:
                return decode()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                short = _Short.of(error, "sound")
            self.step_down(short)

    def decoder(self) -> _Decoder:
        """The family's decoder on this ladder."""
        return _Decoder(self)

    def step_down(self, short: _Short) -> None:
        """Free everything and take the next rung that bears on the stage, else the next.

        From then on each part is freed before the next is loaded, which may be enough where there is no rung. Raises
        RanOutOfMemory.
        """
        clip = self.clip
        had_all, clip.keep_all = clip.keep_all, False
        clip.session.release(*clip.family.components)
        give_back(clip.plan.device)
        rung = _next_rung(clip.plan.rungs, short)
        if rung is None and not had_all:
            raise RanOutOfMemory(
                f"{short.told}, and {clip.plan.model} has nothing left to give up here; ask for a smaller size or "
                "fewer frames, or close other programs"
            )
        rest = tuple(each for each in clip.plan.rungs if each is not rung)
        clip.plan = replace(
            clip.plan,
            residency=clip.plan.residency if rung is None else rung.below(clip.plan.residency),
            rungs=rest,
            warnings=(*clip.plan.warnings, f"{short.told}; goes on with {_ALONE if rung is None else rung.name}"),
        )
        clip.place()
        if self.on_plan is not None:
            self.on_plan(clip.plan)

    def _watch(self) -> None:
        """A machine that begins to swap, or a container that ends its process, gives no error of its own."""
        if self.clip.plan.rungs:
            check_host(self.clip.session.machine.ram_bytes)


class _Decoder:
    """Decodes on; after a step down, frames that were given out are not given out again."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder

    def decode(self, latents: Tensor, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]:
        """See `Family.decode`; `plan` holds until a step down."""
        clip, num_done = self._ladder.clip, 0
        while True:
            try:
                with closing(clip.family.decode(latents, plan=plan, use=use)) as pieces:
                    at = 0
                    for piece in pieces:
                        fresh = piece[max(0, num_done - at) :]
                        at += len(piece)
                        num_done = max(num_done, at)
                        if len(fresh):
                            yield fresh
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                short = _Short.of(error, "decode")
            self._ladder.step_down(short)
            plan = clip.plan


@dataclass(frozen=True)
class _Short:
    """Where memory ran out, and whose."""

    stage: Stage
    is_host: bool
    told: str

    @classmethod
    def of(cls, error: BaseException, stage: Stage) -> _Short:
        is_host = not isinstance(error, torch.OutOfMemoryError)
        whose = "the host's memory" if is_host else "the GPU's memory"
        detail = f" ({error})" if isinstance(error, HostMemoryShort) else ""
        return cls(stage, is_host, f"{whose} ran out while {_NAMES[stage]}{detail}")


def _next_rung(rungs: tuple[Rung, ...], short: _Short) -> Rung | None:
    if not _BEARS_ON[short.stage]:
        return None
    bearing = [rung for rung in rungs if _BEARS_ON[short.stage].intersection(rung.change)]
    if short.is_host:
        from_disk = [rung for rung in bearing if rung.change.get("source") == "disk"]
        bearing = from_disk or bearing
    return next(iter((*bearing, *rungs)), None)


def _on_host(state: DenoiseState | None) -> DenoiseState | None:
    """The same, holding nothing of the GPU's memory."""
    if state is None:
        return None
    solver = replace(
        state.solver, sample=state.solver.sample.cpu(), history=tuple(_cpu(past) for past in state.solver.history)
    )
    return replace(state, solver=solver, done=_cpu(state.done))


def _cpu(tensor: Any) -> Any:
    return None if tensor is None else tensor.cpu()
