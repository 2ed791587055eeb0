"""Puts passes onto a loaded denoiser, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence

from homereel.core.protocols import Component, Family, Pass, Undo

_CLASSES = ("exact", "approximate", "distilled")


def apply_passes(component: Component, family: Family, passes: Sequence[Pass]) -> Undo:
    """Change the denoiser as the passes say, in their order; undo makes it as it was, to the bit.

    If one of them fails, those before it are undone and its error goes on.
    """
    undos: list[Undo] = []

    def undo() -> None:
        while undos:
            undos.pop()()

    try:
        for each in passes:
            undos.append(each.apply(component, family))
    except BaseException:
        undo()
        raise
    return undo


def worst_exactness(passes: Sequence[Pass]) -> str:
    """exact, approximate or distilled: that of the pass which changes most."""
    return max((each.exactness for each in passes), key=_CLASSES.index, default="exact")
