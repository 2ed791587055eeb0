"""Figures as people read them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

FILTERS = ("seconds_text", "bytes_text", "date_text", "band_text", "energy_text", "status_text", "short", "code")
_STATUS = {
    "queued": "waiting",
    "running": "in work",
    "paused": "paused",
    "completed": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}
UNKNOWN = "not measured yet"


def seconds_text(seconds: float | None) -> str:
    """1.4 s, 38 s, 4 min 5 s, 2 h 10 min."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def bytes_text(count: float | None) -> str:
    """Decimal units, as disks are sold."""
    if count is None:
        return "not known"
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def date_text(moment: float | None) -> str:
    """In the server's own time."""
    return "" if moment is None else time.strftime("%d %b %Y, %H:%M", time.localtime(moment))


def band_text(plan: Mapping[str, Any]) -> str:
    """The seconds that a plan expects, with the band within which they will lie, if that is known."""
    seconds, band = plan.get("seconds"), plan.get("band")
    if seconds is None:
        return UNKNOWN
    if not band:
        return f"about {seconds_text(seconds)}"
    low, high = band
    half = max(high - seconds, seconds - low)
    return f"{seconds_text(seconds)} ± {seconds_text(half)}"


def energy_text(kwh: float | None) -> str:
    """Energy in the unit that a bill has."""
    if kwh is None:
        return UNKNOWN
    return f"{kwh * 1000:.2g} Wh" if kwh < 0.1 else f"{kwh:.2g} kWh"


def status_text(status: str) -> str:
    """A job's status in a plain word."""
    return _STATUS.get(status, status)


def short(text: str, most: int = 90) -> str:
    """Cut at a word."""
    if len(text) <= most:
        return text
    return text[:most].rsplit(" ", 1)[0] + " …"


def code(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = text.split("`")
    told = [Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)]
    return Markup("").join(told)
