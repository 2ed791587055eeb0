"""LoRAs that make a model need few steps, and the settings that their makers give; and which of two experts one is for.

They are known by words in the file's name or its metadata, within a family. A fact that nobody published is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from homereel.weights.lora.report import LoraReport

Expert: TypeAlias = Literal["transformer", "transformer_2"]


@dataclass(frozen=True)
class LoraSettings:
    """What a step-distilling LoRA wants. `sigmas` are the shares of noise at each step, the last one 0: they take the
    place of the sampler's own times, which for "euler" would be others even at the same shift.
    """

    name: str
    steps: int | None
    guidance: float | None
    shift: float | None
    sampler: str | None
    sigmas: tuple[float, ...] | None
    source: str


@dataclass(frozen=True)
class _Known:
    """A row of the table. `words` are searched in small letters with - and . made _."""

    family: str
    words: re.Pattern[str]
    settings: LoraSettings


def _even(steps: int, *, shift: float) -> tuple[float, ...]:
    """Even steps from pure noise to the picture, shifted as in rectified flow."""
    times = [1 - step / steps for step in range(steps + 1)]
    return tuple(shift * time / (1 + (shift - 1) * time) for time in times)


_FOUR_STEPS = _even(4, shift=5)  # 1, 0.9375, 0.8333, 0.625, 0
_LTX_SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
_KNOWN = (
    _Known(
        "wan",
        re.compile(r"causvid"),
        LoraSettings(
            "CausVid", 8, 1.0, 8.0, "unipc", None, "huggingface/diffusers#11588; 4 to 8 steps are said to be enough"
        ),
    ),
    _Known(
        "wan",
        re.compile(r"fastwan"),
        LoraSettings("FastWan", 3, 1.0, 8.0, None, (1.0, 0.757, 0.522, 0.0), "hao-ai-lab/FastVideo"),
    ),
    _Known(
        "wan",
        re.compile(r"lightning|seko"),
        LoraSettings("Wan2.2-Lightning", 4, 1.0, 5.0, "euler", _FOUR_STEPS, "ModelTC/Wan2.2-Lightning"),
    ),
    _Known(
        "wan",
        re.compile(r"lightx2v|cfg_step_distill|step_?distill_cfg_?distill"),
        LoraSettings("lightx2v", 4, 1.0, 5.0, "euler", _FOUR_STEPS, "ModelTC/LightX2V, configs/distill"),
    ),
    _Known(
        "hunyuanvideo-1.5",
        re.compile(r"lightx2v"),
        LoraSettings("lightx2v", 4, 1.0, 5.0, "euler", _FOUR_STEPS, "ModelTC/LightX2V, configs/hunyuan_video_15"),
    ),
    _Known(
        "ltx-2",
        re.compile(r"distill"),
        LoraSettings("LTX-2 distilled", 8, 1.0, None, "euler", _LTX_SIGMAS, "Lightricks/LTX-2"),
    ),
)
_EXPERTS: tuple[tuple[Expert, re.Pattern[str], re.Pattern[str]], ...] = (
    ("transformer", re.compile(r"hi(?:gh)?_?noise"), re.compile(r"(?:^|_)(?:high|hn)(?:_|$)")),
    ("transformer_2", re.compile(r"lo(?:w)?_?noise"), re.compile(r"(?:^|_)(?:low|ln)(?:_|$)")),
)
_TWO_EXPERTS = re.compile(r"a14b|wan_?2_?2|2_2|lightx2v|lightning")


def lora_settings(report: LoraReport) -> LoraSettings | None:
    """The settings that a known step-distilling LoRA wants; None for any other."""
    return find_settings(report.family, texts=report.texts)


def lora_expert(report: LoraReport) -> Expert | None:
    """Which expert of a model with two it is for: "transformer" works at high noise, "transformer_2" at low.

    None is both. Models with one network have no use for the answer.
    """
    if len(report.components) == 1 and report.components[0] in ("transformer", "transformer_2"):
        return "transformer_2" if report.components[0] == "transformer_2" else "transformer"
    if report.components or report.family != "wan":
        return None
    for text in report.texts:
        plain = _plain(text)
        bare = _TWO_EXPERTS.search(plain) is not None  # else "high" may be high quality
        named: list[Expert] = [
            expert for expert, full, short in _EXPERTS if full.search(plain) or (bare and short.search(plain))
        ]
        if len(named) == 1:
            return named[0]
    return None


def find_settings(family: str, *, texts: tuple[str, ...]) -> LoraSettings | None:
    """The first row of the table whose words are in one of the texts."""
    for known in _KNOWN:
        if known.family == family and any(known.words.search(_plain(text)) for text in texts):
            return known.settings
    return None


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower())
