"""The passes by name, in the one order in which they are put onto a denoiser, and how they are read from text.

sparse_attention:0.1,int8            names with commas between
step_cache:mag:threshold=0.12        settings after colons: in their order, or by name
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.core.protocols import Pass
from homereel.passes.compile_blocks import CompileBlocks
from homereel.passes.fused_norms import FusedNorms
from homereel.passes.quantize import Quantize
from homereel.passes.sparse_attention import SparseAttention
from homereel.passes.step_cache import StepCache
from homereel.passes.technique import refuse_setting, settings

# Attention and norms are replaced while linears are still linears; what is compiled is what came of that; the cache
# decides outside of compiled code whether it is run at all.
PASSES: Mapping[str, Callable[..., Pass]] = {
    "sparse_attention": SparseAttention,
    "fused_norms": FusedNorms,
    "int8": partial(Quantize, scheme="int8"),
    "int8_block": partial(Quantize, scheme="int8_block"),
    "fp8": partial(Quantize, scheme="fp8"),
    "compile": CompileBlocks,
    "step_cache": StepCache,
}


def parse_passes(texts: str | Iterable[str]) -> tuple[Pass, ...]:
    """The passes that these words choose, in the order of `PASSES`; none for an empty text.

    Raises InvalidRequest with the nearest name, or with what a setting may be.
    """
    if isinstance(texts, str):
        texts = texts.split(",")
    chosen = [_parse_one(text.strip()) for text in texts if text.strip()]
    _check_together([each.name for each in chosen])
    return tuple(sorted(chosen, key=lambda each: list(PASSES).index(each.name)))


def _parse_one(text: str) -> Pass:
    name, *words = text.split(":")
    if name not in PASSES:
        nearest = difflib.get_close_matches(name, PASSES, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(PASSES)}"
        shown = name if len(name) <= 60 else name[:57] + "..."
        raise InvalidRequest(f"passes: there is no pass {shown!r}; {hint}", field="passes")
    factory = PASSES[name]
    kind: Any = factory.func if isinstance(factory, partial) else factory
    allowed = {each.name: each for each in settings(kind)}
    given: dict[str, Any] = {}
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if not equals:
            key, value = (list(allowed)[index] if index < len(allowed) else word), word
        if key not in allowed:
            raise refuse_setting(name, f"{key!r} is no setting; it has {', '.join(allowed) or 'none'}")
        if key in given:
            raise refuse_setting(name, f"{key} is given twice; keep one")
        given[key] = _read(name, key, value, read=allowed[key].metadata["read"])
    return factory(**given)


def _read(name: str, key: str, value: str, *, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise refuse_setting(name, f"{key}={value!r} cannot be read: {error}") from None


def _check_together(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"passes: {name} is there twice; keep one", field="passes")
    eight_bit = [name for name in names if name in ("int8", "int8_block", "fp8")]
    if len(eight_bit) > 1:
        raise InvalidRequest(f"passes: {' and '.join(eight_bit)} exclude each other; keep one", field="passes")
