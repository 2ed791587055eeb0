"""How passes take hold of a family's blocks: replace a part, attribute or method of a module, and put it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from homereel.core.errors import UnsupportedPass
from homereel.core.protocols import Component, Family

_ABSENT = object()


def blocks_of(component: Component, family: Family, *, name: str, side: bool) -> Sequence[Any]:
    """The denoiser's blocks, with those beside them if `side`. Raises UnsupportedPass if they are not as told."""
    blocks, expected = family.blocks(component), family.block_facts.num_blocks
    if len(blocks) != expected:
        raise UnsupportedPass(
            f"{name}: {family.model} has {len(blocks)} blocks where its configuration says {expected}; "
            f"leave {name} out, or fetch the model again"
        )
    return (*blocks, *family.side_blocks(component)) if side else blocks


def part_of(block: Any, part: str, *, name: str, family: Family) -> Any:
    """A part of a block by its name. Raises UnsupportedPass if it has none."""
    found = getattr(block, part, None)
    if not isinstance(found, nn.Module):
        raise UnsupportedPass(
            f"{name}: the blocks of {family.model} ({type(block).__name__}) have no {part}; leave {name} out"
        )
    return found


class Changes:
    """Changes to modules that can be taken back, the last one first."""

    def __init__(self) -> None:
        self._undos: list[Callable[[], object]] = []

    def replace_module(self, owner: nn.Module, name: str, new: nn.Module) -> None:
        """Put another module in the place of a part, of which the order among its neighbours stays."""
        old = owner._modules[name]
        owner._modules[name] = new
        self._undos.append(lambda: owner._modules.__setitem__(name, old))

    def set_processor(self, attention: Any, processor: nn.Module) -> None:
        """Let an attention of diffusers compute by this processor, whose parameters become its own."""
        old = attention.processor

        def undo() -> None:
            if isinstance(old, nn.Module):
                attention._modules["processor"] = old
            else:
                del attention._modules["processor"]
                attention.processor = old

        attention.set_processor(processor)
        self._undos.append(undo)

    def set_forward(self, module: nn.Module, forward: Any) -> None:
        """Let one module compute by this function; its class stays as it is."""
        self.set_attribute(module, "forward", forward)

    def set_attribute(self, owner: object, name: str, value: Any) -> None:
        """Give one object something of its own in the place of what its class has."""
        old = vars(owner).get(name, _ABSENT)
        object.__setattr__(owner, name, value)
        self._undos.append(lambda: _restore(owner, name, old))

    def then(self, undo: Callable[[], object]) -> None:
        """Something else to take back."""
        self._undos.append(undo)

    def undo(self) -> None:
        """Take back all changes; a second time does nothing."""
        while self._undos:
            self._undos.pop()()


def _restore(owner: object, name: str, old: object) -> None:
    if old is _ABSENT:
        object.__delattr__(owner, name)
    else:
        object.__setattr__(owner, name, old)
