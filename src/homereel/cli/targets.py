"""Names for the files to be made: as given, by a pattern, or made of the prompt's words."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from homereel.core.errors import UnwritableTarget

_MAX_NAME = 48
_FIELD = re.compile(r"\{([^{}]*)\}")


def name_targets(output: str | None, *, prompt: str, seeds: Sequence[int]) -> list[str]:
    """One target for each seed. An automatic name never is that of a file which exists."""
    if output is None:
        return automatic_names(prompt, count=len(seeds))
    unknown = [field for field in _FIELD.findall(output) if field not in ("seed", "index")]
    if unknown:
        raise UnwritableTarget(f"-o: {{{unknown[0]}}} is no field of a name; {{seed}} and {{index}} are")
    if len(seeds) > 1 and not _FIELD.search(output):
        output = _numbered(output)
    return [
        output.replace("{seed}", str(seed)).replace("{index}", str(index)) for index, seed in enumerate(seeds, start=1)
    ]


def automatic_names(prompt: str, *, count: int) -> list[str]:
    """Names in the present folder that are free now, made of the prompt's first words."""
    free = (name for name in _candidates(slug(prompt), numbered=count > 1) if not Path(name).exists())
    return list(itertools.islice(free, count))


def _candidates(slug: str, *, numbered: bool) -> Iterator[str]:
    if not numbered:
        yield f"{slug}.mp4"
    for number in itertools.count(1 if numbered else 2):
        yield f"{slug}-{number}.mp4"


def slug(prompt: str) -> str:
    """The prompt's words in small letters, joined by hyphens, cut at a word's end."""
    plain = unicodedata.normalize("NFKC", prompt).lower()
    words = re.findall(r"\w+", plain.replace("_", " "))
    slug = ""
    for word in words:
        longer = f"{slug}-{word}" if slug else word
        if len(longer.encode()) > _MAX_NAME:
            break
        slug = longer
    return slug or "clip"


def _numbered(output: str) -> str:
    """`-{index}` put before the ending, or behind a folder's name."""
    if output.endswith(("/", "\\")):
        return f"{output[:-1]}-{{index}}/"
    path = Path(output)
    if path.is_dir():
        return f"{output}-{{index}}/"
    if "%" in path.name:
        raise UnwritableTarget("-o: for several clips a pattern of frames needs {index} or {seed}, too")
    return str(path.with_name(f"{path.stem}-{{index}}{path.suffix}"))
