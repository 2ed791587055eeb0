"""The hooks of a step cache, on diffusers' registry: the first block decides, the last one tells, those between obey.

diffusers' own caches know one stream of a family each, count VACE's hints twice in a step that is left out, and
do nothing at all where they do not know the blocks. These know all streams of a block, and since the last block alone
tells what came of a step, nothing that is added between blocks is counted twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.core.protocols import Component, Undo
from homereel.passes.cache_rules import Memory, Rule, Streams, remember, told

_HOOK = "homereel_step_cache"


def cache_steps(
    component: Component, blocks: Sequence[nn.Module], *, streams: tuple[str, ...], rule: Rule, name: str
) -> Undo:
    """Let the blocks of this transformer leave steps out. Raises UnsupportedPass if they do not take the streams."""
    for block in blocks:
        missing = [stream for stream in streams if stream not in inspect.signature(block.forward).parameters]
        if missing:
            raise UnsupportedPass(f"{name}: {type(block).__name__} takes no {missing[0]}; leave {name} out")
    untouched = [block for block in (component, *blocks) if not hasattr(block, "_diffusers_hook")]
    plain = [block for block in blocks if "forward" not in vars(block)]
    states = StateManager(_PassState)
    last = len(blocks) - 1
    for index, block in enumerate(blocks):
        kind = _First if index == 0 else _Last if index == last else _Between
        registry = HookRegistry.check_if_exists_or_initialize(block)
        registry.register_hook(kind(states, rule=rule, streams=streams), _HOOK)
    _look_again(component)

    def undo() -> None:
        for block in blocks:
            HookRegistry.check_if_exists_or_initialize(block).remove_hook(_HOOK, recurse=False)
        for block in plain:
            vars(block).pop("forward", None)
        _look_again(component)
        for module in untouched:
            del module._diffusers_hook

    return undo


def forget_steps(component: Component) -> None:
    """Nothing of an earlier clip is remembered."""
    for module in component.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = None if registry is None else registry.get_hook(_HOOK)
        if hook is not None:
            hook.states.reset()


def _look_again(component: Component) -> None:
    """A transformer's registry keeps a list of those below it, which has changed."""
    HookRegistry.check_if_exists_or_initialize(component).invalidate_child_registries_cache()


class _PassState(BaseState):  # type: ignore[misc]  # diffusers is not typed
    """Of one kind of pass: its memory, and where the pass that is under way stands."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.skipping = False
        self.step = 0
        self.base: Streams | None = None  # what the rest is added to

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]


class _CacheHook(ModelHook):  # type: ignore[misc]
    _is_stateful = True

    def __init__(self, states: StateManager, *, rule: Rule, streams: tuple[str, ...]) -> None:
        super().__init__()
        self.states, self.rule, self.streams = states, rule, streams
        self.names: list[str] = []

    def initialize_hook(self, module: nn.Module) -> nn.Module:
        self.names = list(inspect.signature(module.forward).parameters)
        return module

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.states.reset()
        return module

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Streams:
        """The streams as the block was given them."""
        return tuple(kwargs[stream] if stream in kwargs else args[self.names.index(stream)] for stream in self.streams)


class _First(_CacheHook):
    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        step, num_steps = self._where()
        state, inputs = self.states.get_state(), self.inputs(args, kwargs)
        state.step, state.base, added = step, inputs, None
        if self.rule.after_first:
            output = self.fn_ref.original_forward(*args, **kwargs)
            state.base = _as_streams(output)
            added = state.base[0] - inputs[0]
        skips = self.rule.skips(state.memory, step=step, num_steps=num_steps, added=added)
        state.skipping = skips and _fits(state.memory, state.base)
        if self.rule.after_first:
            return output
        return _as_given(inputs) if state.skipping else self.fn_ref.original_forward(*args, **kwargs)

    def _where(self) -> tuple[int, int]:
        """This step and how many there are; a step that is not after the last one begins another run."""
        context = self.states._context  # asking `context` fails where nobody named the pass
        if context is None or context.step_index is None:
            raise UnsupportedPass(
                "step_cache: this family does not name its passes, which would be mixed up; leave step_cache out"
            )
        state = self.states.get_state()
        if state.memory.rests and context.step_index <= state.step:
            state.reset()
        return context.step_index, context.num_inference_steps


class _Between(_CacheHook):
    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        if self.states.get_state().skipping:
            return _as_given(self.inputs(args, kwargs))
        return self.fn_ref.original_forward(*args, **kwargs)


class _Last(_CacheHook):
    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        state = self.states.get_state()
        base, state.base = state.base, None
        if state.skipping:
            state.memory.skips += 1
            rest = told(state.memory, step=state.step)
            return _as_given(tuple(part + more.to(part.dtype) for part, more in zip(base, rest, strict=True)))
        output = self.fn_ref.original_forward(*args, **kwargs)
        rest = tuple(after - before for after, before in zip(_as_streams(output), base, strict=True))
        remember(state.memory, rest, step=state.step, order=self.rule.order)
        return output


def _fits(memory: Memory, base: Streams) -> bool:
    """Whether what is remembered is of this shape: a clip may go on at another size."""
    return all(known.shape == now.shape for known, now in zip(memory.rests[0], base, strict=True))


def _as_streams(output: Tensor | tuple[Tensor, ...]) -> Streams:
    return (output,) if isinstance(output, Tensor) else tuple(output)


def _as_given(streams: Streams) -> Tensor | Streams:
    """As a block gives its output: one stream is no tuple."""
    return streams[0] if len(streams) == 1 else streams
