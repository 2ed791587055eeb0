"""Which of two experts a file is: models such as Wan 2.2 A14B have one for high noise and one for low."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from homereel.core.errors import InvalidRequest
from homereel.models.single_file.identify import Network

# "high_noise" as most have it, and "-high-" as in TurboWan's names.
_WORD = re.compile(r"(?<![a-z])(?P<which>high|low)(?P<noise>[-_ ]?noise)?(?![a-z])", re.IGNORECASE)


def assign_experts(networks: Sequence[Network]) -> Iterator[tuple[str, Network]]:
    """Which network is which component: one, or the two that their files' names tell apart. Raises InvalidRequest."""
    found = [_WORD.search(Path(network.file).stem) for network in networks]
    words = [match["which"].lower() if match else "" for match in found]
    if len(networks) == 1:
        if found[0] and (found[0]["noise"] or _needs_two(networks[0])):
            raise InvalidRequest(f"{networks[0].file} is one of two experts; give the files of both", field="files")
        yield "transformer", networks[0]
        return
    if sorted(words) != ["high", "low"] or networks[0].family is not networks[1].family:
        raise InvalidRequest(
            "several files make one model only if they are its parts (-00001-of-00002 ...), or two experts "
            "with high_noise and low_noise in their names; import others one by one",
            field="files",
        )
    yield "transformer", networks[words.index("high")]
    yield "transformer_2", networks[words.index("low")]


def without_expert(stem: str) -> str:
    """A file's name without the word that says which expert it is."""
    return re.sub(r"([-_. ])[-_. ]+", r"\1", _WORD.sub("", stem)).strip("-_. ") or stem


def _needs_two(network: Network) -> bool:
    variant = network.family.variant(network.figures)
    return variant is not None and variant.base == variant.experts_base
