"""Options on what a clip may take: `homereel plan` and `homereel generate` have the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from homereel.core.errors import InvalidRequest

if TYPE_CHECKING:
    from homereel.core.machine import Machine
    from homereel.planning.search import Prefer, Quality

_PANEL = "What it may take"
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(GB|GiB|MB|MiB|G|M)?", re.IGNORECASE)
_UNITS = {"gb": 10**9, "g": 10**9, "gib": 2**30, "mb": 10**6, "m": 10**6, "mib": 2**20}
_LEAST_BYTES, _MOST_BYTES = 64 * 10**6, 10**15
CLASSES = ("exact", "approximate", "distilled")

MaxVram = Annotated[
    str | None,
    typer.Option("--max-vram", metavar="8GB", rich_help_panel=_PANEL, help="Memory of the GPU that it may take."),
]
MaxRam = Annotated[
    str | None,
    typer.Option("--max-ram", metavar="32GB", rich_help_panel=_PANEL, help="Memory of the machine that it may take."),
]
PreferWord = Annotated[
    str | None,
    typer.Option(
        "--prefer",
        metavar="speed|quality",
        rich_help_panel=_PANEL,
        help="Let the plan choose what makes it fast: of all that --quality allows, or the most exact of it.",
    ),
]


@dataclass(frozen=True)
class Limits:
    """What was typed, read. `quality` and `prefer` are None where nothing was to be chosen for the user."""

    vram_bytes: int | None = None
    ram_bytes: int | None = None
    quality: Quality | None = None
    prefer: Prefer | None = None

    @property
    def searches(self) -> bool:
        """Whether the plan is to choose passes."""
        return self.quality is not None or self.prefer is not None

    def machine(self) -> Machine:
        """This machine within the limits; with a GPU that it has not, if memory for one is granted."""
        from homereel.planning.machine import imagined_gpu, probe_machine

        here = probe_machine()
        if self.vram_bytes is not None and here.device != "cuda":
            here = imagined_gpu(here, vram_bytes=self.vram_bytes)
        return here.granting(vram_bytes=self.vram_bytes, ram_bytes=self.ram_bytes)


NO_LIMITS = Limits()


def read_limits(
    *, max_vram: str | None, max_ram: str | None, quality: str | None = None, prefer: str | None = None
) -> Limits:
    """Raises InvalidRequest for words that mean nothing."""
    if prefer not in (None, "speed", "quality"):
        raise InvalidRequest(f"--prefer: {prefer!r} is neither speed nor quality", field="prefer")
    if quality not in (None, *CLASSES):
        raise InvalidRequest(
            f"--quality: {quality!r} is no number from 0 to 100 (of the file) and none of {', '.join(CLASSES)} "
            "(of what makes the clip)",
            field="quality",
        )
    return Limits(
        vram_bytes=_read_bytes(max_vram, option="--max-vram"),
        ram_bytes=_read_bytes(max_ram, option="--max-ram"),
        quality=quality,  # type: ignore[arg-type]  # checked above
        prefer=prefer,  # type: ignore[arg-type]
    )


def _read_bytes(text: str | None, *, option: str) -> int | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    value = round(float(found[1]) * _UNITS[(found[2] or "GB").lower()]) if found else 0
    if not _LEAST_BYTES <= value <= _MOST_BYTES:
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise InvalidRequest(
            f"{option}: {shown!r} is no size of a memory; give one such as 8GB, 7.5GiB or 900MB",
            field=option.removeprefix("--").replace("-", "_"),
        )
    return value
