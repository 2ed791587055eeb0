"""What clips will take, as a page tells it before the click: seconds with their band, memory, energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WATTS, _PRICE, _CURRENCY = "watts", "price_per_kwh", "currency"


@dataclass(frozen=True)
class Estimate:
    """Of one clip or of several, one after the other. None is what nobody has measured yet."""

    seconds: float | None
    band: tuple[float, float] | None
    peak_bytes: int
    kwh: float | None
    cost: str | None
    stages: tuple[tuple[str, float | None], ...] = ()

    def as_plan(self) -> dict[str, Any]:
        """As the filter `band_text` takes it."""
        return {"seconds": self.seconds, "band": self.band}


def estimate(plans: Sequence[Mapping[str, Any]], settings: Mapping[str, str]) -> Estimate:
    """The sum of these plans (`Plan.as_dict`), with what the settings page says of power and its price."""
    seconds = _sum([plan.get("seconds") for plan in plans])
    bands = [plan.get("band") for plan in plans]
    band = None
    if bands and all(bands):
        band = sum(low for low, _ in bands), sum(high for _, high in bands)  # type: ignore[misc]
    kwh = _sum([plan.get("kwh") for plan in plans])
    watts = number(settings.get(_WATTS))
    if kwh is None and watts is not None and seconds is not None:
        kwh = watts * seconds / 3_600_000
    price = number(settings.get(_PRICE))
    cost = None if kwh is None or price is None else f"{kwh * price:.4f} {settings.get(_CURRENCY, '')}".strip()
    stages = plans[0].get("stages") or () if len(plans) == 1 else ()
    return Estimate(
        seconds=seconds,
        band=band,
        peak_bytes=max((int(plan.get("peak_bytes") or 0) for plan in plans), default=0),
        kwh=kwh,
        cost=cost,
        stages=tuple((_name(stage), stage.get("seconds")) for stage in stages if isinstance(stage, Mapping)),
    )


def number(text: str | None) -> float | None:
    """A figure from a settings field; None if there is none."""
    try:
        return None if not text else float(text)
    except ValueError:
        return None


def _sum(values: Sequence[Any]) -> float | None:
    """None as soon as one is not known."""
    return None if not values or any(value is None for value in values) else float(sum(values))


def _name(stage: Mapping[str, Any]) -> str:
    return str(stage.get("stage") or stage.get("name") or "")
