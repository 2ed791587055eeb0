"""Which tensors of a LoRA apply to a network, known by the shapes of its parameters, and why the others do not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from homereel.core.errors import WeightsError
from homereel.weights.lora.family import LoraFamily, guess_family
from homereel.weights.lora.file import LoraFile
from homereel.weights.lora.layers import LoraLayer, LoraLayers, read_layers
from homereel.weights.lora.names import Target, find_targets
from homereel.weights.lora.scale import layer_scale

Shape = tuple[int, ...]
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_WORDS = {"text_encoder": "the text encoder", "connectors": "the connectors between text encoder and transformer"}


@dataclass(frozen=True)
class Change:
    """What is added to one parameter at strength 1: `scale` * up @ down, or `scale` * a whole tensor.

    `keys` are (down, up) or (whole,); `target` says which rows of the result are meant.
    """

    parameter: str
    keys: tuple[str, ...]
    scale: float
    target: Target


@dataclass(frozen=True)
class Unmatched:
    """A tensor of the file that does not apply, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class LoraMatch:
    """Every tensor of the file is in exactly one of `matched`, `unmatched`, and (for the other expert) `elsewhere`."""

    changes: tuple[Change, ...]
    matched: tuple[str, ...]
    unmatched: tuple[Unmatched, ...]
    elsewhere: tuple[str, ...]

    @property
    def num_parameters(self) -> int:
        """How many parameters of the network are changed."""
        return len({change.parameter for change in self.changes})


def match_lora(lora: LoraFile, shapes: Mapping[str, Shape], *, component: str = "transformer") -> LoraMatch:
    """Compare a LoRA with a network whose parameters have these shapes. No tensor is read but alphas.

    `component` is "transformer", or "transformer_2" for the second expert. Raises WeightsError on a damaged file.
    """
    layers = read_layers(lora)
    family = guess_family(lora, layers=layers)
    changes: list[Change] = []
    matched: list[str] = []
    unmatched = [Unmatched(key, "it is no part of a LoRA that is known") for key in layers.unknown]
    elsewhere: list[str] = []
    for layer in layers.layers:
        if layer.component in ("transformer", "transformer_2") and layer.component != component:
            elsewhere += layer.keys.values()
            continue
        found = _Layer(lora, layer, shapes=shapes)
        reason = _whole_layer_reason(layer, layers=layers, family=family)
        if not reason:
            found.match(find_targets(layer.name, family=family.family))
        changes += found.changes
        matched += found.matched
        unmatched += [
            Unmatched(key, reason or found.reasons[role])
            for role, key in layer.keys.items()
            if reason or role in found.reasons
        ]
    return LoraMatch(tuple(changes), tuple(matched), tuple(unmatched), tuple(elsewhere))


def describe_unmatched(match: LoraMatch, *, examples: int = 3) -> tuple[str, ...]:
    """One sentence a reason: how many tensors, which for example, and why they do not apply."""
    counts = Counter(entry.reason for entry in match.unmatched)
    sentences = []
    for reason, count in counts.most_common():
        keys = [entry.key for entry in match.unmatched if entry.reason == reason]
        named = ", ".join(keys[:examples]) + (", ..." if count > examples else "")
        sentences.append(f"{count} of its tensors {'does' if count == 1 else 'do'} not apply: {reason} ({named})")
    return tuple(sentences)


def check_methods(lora: LoraFile) -> None:
    """Raises WeightsError if the file needs more than adding low-rank products and differences."""
    methods = read_layers(lora).methods
    if methods:
        raise WeightsError(
            f"{lora.path} uses {' and '.join(methods)}, which cannot be applied; plain LoRA can, in the formats of "
            "diffusers, kohya, ComfyUI and lightx2v: convert it, or look for such a file"
        )


def _whole_layer_reason(layer: LoraLayer, *, layers: LoraLayers, family: LoraFamily) -> str:
    if layers.methods:
        return f"the file uses {' and '.join(layers.methods)}, which cannot be applied"
    if layer.component in _WORDS:
        return f"it is for {_WORDS[layer.component]}, which is not changed"
    if not family.family:
        return f"it is for another kind of model ({family.base})"
    if not find_targets(layer.name, family=family.family):
        return f"no layer of the family {family.family} has this name"
    return ""


class _Layer:
    """Matches one layer's tensors; `reasons` says by role why some do not apply."""

    def __init__(self, lora: LoraFile, layer: LoraLayer, *, shapes: Mapping[str, Shape]) -> None:
        self.lora, self.layer, self.shapes = lora, layer, shapes
        self.changes: list[Change] = []
        self.reasons: dict[str, str] = {}

    @property
    def matched(self) -> list[str]:
        keys = self.layer.keys
        return [key for role, key in keys.items() if self.changes and role not in self.reasons]

    def match(self, targets: tuple[Target, ...]) -> None:
        keys = self.layer.keys
        roles = [role for role in ("down", "up") if role in keys]
        if len(roles) == 1:
            other = "up" if roles == ["down"] else "down"
            self.reasons[roles[0]] = f"its other half ({other}) is missing"
        elif roles:
            self._match_product(targets)
        if "diff" in keys:
            self._match_whole("diff", targets, suffixes=(".weight", ""), scale=1.0)
        if "bias" in keys:
            self._match_whole("bias", targets, suffixes=(".bias",), scale=1.0)
        if "up_bias" in keys:
            self._match_whole("up_bias", targets, suffixes=(".bias",), scale=self._scale())
        if "alpha" in keys and ("down" in self.reasons or "down" not in keys):
            self.reasons["alpha"] = self.reasons.get("down") or self.reasons.get("up") or "it scales nothing"

    def _match_product(self, targets: tuple[Target, ...]) -> None:
        down, up = (self._shape(role) for role in ("down", "up"))
        reason = self._number_reason("down") or self._number_reason("up")
        found: list[Change] = []
        for target in targets:
            name = f"{target.layer}.weight"
            reason = reason or _product_reason(down, up, self.shapes.get(name), parts=target.parts)
            keys = (self.layer.keys["down"], self.layer.keys["up"])
            if not reason:
                found.append(Change(name, keys, self._scale(), target))
        if reason:
            self.reasons |= {"down": reason, "up": reason}
        else:
            self.changes += found

    def _match_whole(self, role: str, targets: tuple[Target, ...], *, suffixes: tuple[str, ...], scale: float) -> None:
        shape, reason = self._shape(role), self._number_reason(role)
        found: list[Change] = []
        for target in targets:
            names = [target.layer + suffix for suffix in suffixes]
            name = next((name for name in names if name in self.shapes), names[0])
            reason = reason or _whole_reason(shape, self.shapes.get(name), parts=target.parts)
            if not reason:
                found.append(Change(name, (self.layer.keys[role],), scale, target))
        if reason:
            self.reasons[role] = reason
        else:
            self.changes += found

    def _scale(self) -> float:
        down = self._shape("down") if "down" in self.layer.keys else ()
        return layer_scale(self.lora, self.layer, rank=down[0]) if down and down[0] else 1.0

    def _shape(self, role: str) -> Shape:
        return self.lora.tensors[self.layer.keys[role]].shape

    def _number_reason(self, role: str) -> str:
        dtype = self.lora.tensors[self.layer.keys[role]].dtype
        return "" if dtype in _FLOATS else f"its numbers are {dtype}, which needs scales that a LoRA does not have"


def _product_reason(down: Shape, up: Shape, wanted: Shape | None, *, parts: int) -> str:
    """The weights of convolutions count as tables, too: their outputs by all the rest."""
    if wanted is None:
        return "the model has no such layer"
    rank = down[0] if len(down) > 1 else 0
    if not rank or len(up) < 2 or math.prod(up[1:]) != rank:
        return f"its halves {down} and {up} do not fit each other"
    change = (up[0], math.prod(down[1:]))
    layer = (wanted[0] * parts, math.prod(wanted[1:])) if len(wanted) > 1 else wanted
    return "" if change == layer else f"it changes a layer of {_by(change)} where the model has {_by(layer)}"


def _whole_reason(shape: Shape, wanted: Shape | None, *, parts: int) -> str:
    if wanted is None:
        return "the model has no such layer"
    whole = (wanted[0] * parts, *wanted[1:]) if wanted else wanted
    same_table = shape[:1] == whole[:1] and math.prod(shape) == math.prod(whole)  # a convolution kept as a table
    return "" if shape == whole or same_table else f"it has the shape {shape} where the model has {whole}"


def _by(shape: Shape) -> str:
    return " by ".join(map(str, shape))
