"""Which family and size of model a LoRA was made for, as far as its names and shapes tell."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from homereel.weights.lora.file import LoraFile
from homereel.weights.lora.layers import LoraLayer, LoraLayers
from homereel.weights.lora.names import FAMILIES, find_targets

# What the width of the tokens says, by family.
_SIZES = {
    ("wan", 1536): "Wan 1.3B",
    ("wan", 5120): "Wan 14B",
    ("wan", 3072): "Wan 2.2 TI2V-5B",
    ("hunyuanvideo-1.5", 2048): "HunyuanVideo 1.5",
    ("ltx-2", 4096): "LTX-2",
}
# Families that share names with ours and cannot be used: by family of the names, and width.
_RELATIVES = {
    ("hunyuanvideo-1.5", 3072): "HunyuanVideo 1 or Flux",
    ("ltx-2", 2048): "LTX-Video before LTX-2",
}
# Names that tell of other families.
_STRANGERS = (
    (re.compile(r"(?:^|[._])(?:down|up|input|output|mid|middle)_blocks?[._]"), "Stable Diffusion"),
    (re.compile(r"(?:^|[._])single_(?:transformer_)?blocks[._]"), "HunyuanVideo 1 or Flux"),
    (re.compile(r"(?:^|[._])joint_blocks[._]"), "Stable Diffusion 3"),
    (re.compile(r"^(?:model[._])?layers[._]\d+[._]self_attn"), "a language model"),
)
_NAMES = {"wan": "Wan", "hunyuanvideo-1.5": "HunyuanVideo 1.5", "ltx-2": "LTX-2"}
_ATTENTION = re.compile(r"^(?:transformer_)?blocks\.\d+\.attn1?\.to_[qkv]$")
_FEED_FORWARD = re.compile(r"^(?:transformer_)?blocks\.\d+\.ffn?\.net\.0\.proj$")
_FROM_PICTURE = re.compile(r"\.add_[kv]_proj$|\.norm_added_k$|\.image_embedder\.")


@dataclass(frozen=True)
class LoraFamily:
    """`family` is one of ours or empty; `base` says it in words; `width` is that of the tokens, None if unknown."""

    family: str
    base: str
    width: int | None
    from_picture: bool  # it changes layers that only Wan 2.1's picture-to-video models have
    with_control: bool  # it changes VACE's layers
    with_sound: bool
    reasons: tuple[str, ...]


def guess_family(lora: LoraFile, *, layers: LoraLayers) -> LoraFamily:
    """The family with the most of the file's names, its size by the width of what goes into attention."""
    here = [layer for layer in layers.layers if layer.component not in ("text_encoder", "connectors")]
    known = {family: _targets(here, family=family) for family in FAMILIES}
    family = max(known, key=lambda name: len(known[name]))
    stranger = next((name for pattern, name in _STRANGERS if any(pattern.search(layer.name) for layer in here)), None)
    if stranger or not known[family]:
        return _unknown(stranger or "", example=here[0].name if here else "")
    pairs = known[family]
    width = _width(lora, pairs)
    targets = [target for _, target in pairs]
    reasons = [f"{len({layer.name for layer, _ in pairs})} of its {len(here)} layers have names of {_NAMES[family]}"]
    if width is not None:
        reasons.append(f"its tokens are {width} wide")
    relative = _RELATIVES.get((family, width or 0))
    with_sound = any(".audio_" in target or target.startswith("audio_") for target in targets)
    if relative and not with_sound:
        return _unknown(relative, example="", width=width, reasons=tuple(reasons))
    from_picture = family == "wan" and any(_FROM_PICTURE.search(target) for target in targets)
    if from_picture:
        reasons.append("it changes layers that only picture-to-video models have")
    with_control = any(target.startswith("vace_") for target in targets)
    if with_control:
        reasons.append("it changes layers of VACE")
    return LoraFamily(
        family=family,
        base=_base(family, width, from_picture=from_picture, with_control=with_control),
        width=width,
        from_picture=from_picture,
        with_control=with_control,
        with_sound=with_sound,
        reasons=tuple(reasons),
    )


def _targets(layers: list[LoraLayer], *, family: str) -> list[tuple[LoraLayer, str]]:
    return [(layer, target.layer) for layer in layers for target in find_targets(layer.name, family=family)[:1]]


def _width(lora: LoraFile, pairs: list[tuple[LoraLayer, str]]) -> int | None:
    for pattern in (_ATTENTION, _FEED_FORWARD):
        widths = Counter(_inputs(lora, [layer for layer, target in pairs if pattern.match(target)]))
        if widths:
            return widths.most_common(1)[0][0]
    return None


def _inputs(lora: LoraFile, layers: list[LoraLayer]) -> Iterator[int]:
    for layer in layers:
        key = layer.keys.get("down") or layer.keys.get("diff")
        if key and len(lora.tensors[key].shape) > 1:
            yield math.prod(lora.tensors[key].shape[1:])


def _base(family: str, width: int | None, *, from_picture: bool, with_control: bool) -> str:
    size = _SIZES.get((family, width or 0))
    if size is None:
        size = f"{_NAMES[family]} of another size" if width else f"{_NAMES[family]}, of unknown size"
    if with_control:
        return f"{size}, VACE"
    return f"{size}, picture to video" if from_picture else size


def _unknown(name: str, *, example: str, width: int | None = None, reasons: tuple[str, ...] = ()) -> LoraFamily:
    if not reasons:
        reasons = (f"its layers have names such as {example}",) if example else ()
    base = f"{name}, which homereel cannot use" if name else "unknown"
    return LoraFamily("", base, width, from_picture=False, with_control=False, with_sound=False, reasons=reasons)
