"""Where a clip stands, for techniques that act on some of its steps only.

Families name every pass through their transformer and say its step (diffusers' cache contexts); a hook on the
transformer hears that just before it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager

from homereel.core.protocols import Component, Undo

_HOOK = "homereel_progress"


@dataclass
class Progress:
    """Shared by all blocks of a transformer. `early` holds in the first share of the steps."""

    first_share: float
    early: bool = False

    def at(self, step: int | None, num_steps: int | None) -> None:
        """A pass begins; without a step it counts as a late one."""
        self.early = step is not None and num_steps is not None and step < round(self.first_share * num_steps)


def watch_steps(component: Component, progress: Progress) -> Undo:
    """Keep `progress` true for every pass through this transformer."""
    had_forward, had_registry = "forward" in vars(component), hasattr(component, "_diffusers_hook")
    registry = HookRegistry.check_if_exists_or_initialize(component)
    registry.register_hook(_StepHook(progress), _HOOK)

    def undo() -> None:
        registry.remove_hook(_HOOK, recurse=False)
        if not had_forward:
            component.__dict__.pop("forward", None)
        if not had_registry:
            del component._diffusers_hook

    return undo


class NoState(BaseState):  # type: ignore[misc]  # diffusers is not typed
    """For a hook that wants to know the step and keeps nothing."""

    def reset(self) -> None:
        """Nothing is kept."""


class _StepHook(ModelHook):  # type: ignore[misc]
    _is_stateful = True

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.states = StateManager(NoState)

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:  # noqa: ARG002
        where = self.states._context  # asking `context` fails where nobody named the pass
        if where is None:
            self.progress.at(None, None)
        else:
            self.progress.at(where.step_index, where.num_inference_steps)
        return args, kwargs

    def reset_state(self, module: Any) -> Any:
        self.states.reset()
        return module
