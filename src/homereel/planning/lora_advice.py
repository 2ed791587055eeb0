"""What a LoRA that was distilled for few steps changes of a model's standard settings."""

from __future__ import annotations

from dataclasses import replace

from homereel.core.model import Defaults
from homereel.core.request import Request
from homereel.weights.lora.settings import LoraSettings


def advised(defaults: Defaults, settings: LoraSettings | None) -> Defaults:
    """The model's standard settings, with the LoRA's in place of those that it names."""
    if settings is None:
        return defaults
    wanted = {name: getattr(settings, name) for name in ("steps", "guidance", "shift", "sampler")}
    named = {name: value for name, value in wanted.items() if value is not None}
    if "guidance" in named and defaults.guidance_2 is not None:
        named["guidance_2"] = named["guidance"]
    return replace(defaults, **named, sigmas=None)  # the model's own times are not the LoRA's


def given_sigmas(request: Request, settings: LoraSettings | None) -> tuple[float, ...] | None:
    """The LoRA's own times, unless the request decides on others."""
    if settings is None or settings.sigmas is None or request.shift is not None or request.sampler is not None:
        return None
    return settings.sigmas if request.steps in (None, len(settings.sigmas) - 1) else None
