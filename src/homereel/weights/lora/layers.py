"""Sorts a LoRA's tensors by the layer they change, without yet knowing which network it is for.

A tensor's name is a prefix, a layer's name and an ending: diffusion_model. | blocks.0.self_attn.q | .lora_down.weight.
Every tensor ends up in exactly one place: a layer, or the list of those that nothing can be done with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from homereel.core.errors import WeightsError
from homereel.weights.lora.file import LoraFile

# What the endings mean. The change of a weight is up @ down, and `diff` is a whole tensor to be added.
_ROLES = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_B.bias": "up_bias",
    "lora_B.default.bias": "up_bias",
    "lora_up.bias": "up_bias",
    "alpha": "alpha",
    "diff": "diff",
    "diff_b": "bias",
}
_MODULATION = ".diff_m"  # lightx2v's name for the difference of a block's table `modulation`
_METHODS = {
    "DoRA": re.compile(r"^(.*)\.(?:dora_scale|lora_magnitude_vector(?:\.default)?(?:\.weight)?)$"),
    "LoKr": re.compile(r"^(.*)\.lokr_(?:w1|w2|t2|w1_a|w1_b|w2_a|w2_b)$"),
    "LoHa": re.compile(r"^(.*)\.hada_(?:t1|t2|w1_a|w1_b|w2_a|w2_b)$"),
    "OFT": re.compile(r"^(.*)\.oft_(?:blocks|diag|R(?:\.default)?\.weight)$"),
    "LoCon with a middle tensor": re.compile(r"^(.*)\.lora_mid\.weight$"),
    "(IA)3": re.compile(r"^(.*)\.on_input$"),
}
# Which part of a model a prefix speaks of; None is the transformer, whichever of two.
_PREFIXES: tuple[tuple[str, str | None], ...] = (
    ("transformer_2.", "transformer_2"),
    ("transformer.", "transformer"),
    ("model.diffusion_model.", None),
    ("diffusion_model.", None),
    ("lora_unet_", None),
    ("lora_transformer_", None),
    ("lycoris_", None),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder"),
    ("text_encoders.", "text_encoder"),
    ("lora_te_", "text_encoder"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder"),
    ("connectors.", "connectors"),
    ("text_embedding_projection.", "connectors"),
)
_PEFT = "base_model.model."


@dataclass(frozen=True)
class LoraLayer:
    """One layer as the file names it: `keys` are its tensors by their roles, `prefix` what stood before the name."""

    name: str
    component: str | None
    prefix: str
    keys: Mapping[str, str]


@dataclass(frozen=True)
class LoraLayers:
    """All of a file: what changes layers, the methods besides plain LoRA, and the keys that mean nothing here."""

    layers: tuple[LoraLayer, ...]
    methods: tuple[str, ...]
    unknown: tuple[str, ...]


def read_layers(lora: LoraFile) -> LoraLayers:
    """Sort the tensors of a file, and read none. Raises WeightsError if not one of them has an ending of LoRA's."""
    found: dict[tuple[str, str | None], dict[str, str]] = {}
    prefixes: dict[tuple[str, str | None], str] = {}
    methods: set[str] = set()
    unknown: list[str] = []
    experts = any(key.removeprefix(_PEFT).startswith("transformer_2.") for key in lora.tensors)
    for key in lora.tensors:
        prefix, component, rest = _split_prefix(key)
        name, role = _split_ending(rest)
        if component == "transformer" and not experts:
            component = None
        layer = found.setdefault((name, component), {}) if role else {}
        if not role or role in layer:
            unknown.append(key)
            continue
        if role in _METHODS:
            methods.add(role)
        layer[role] = key
        prefixes.setdefault((name, component), prefix)
    if not found:
        raise WeightsError(f"{lora.path} is no LoRA: none of its tensors has a name such as ...lora_A.weight")
    layers = tuple(LoraLayer(name, part, prefixes[name, part], keys) for (name, part), keys in found.items())
    return LoraLayers(layers=layers, methods=tuple(sorted(methods)), unknown=tuple(unknown))


def _split_prefix(key: str) -> tuple[str, str | None, str]:
    rest = key.removeprefix(_PEFT)
    peft = key[: len(key) - len(rest)]
    for prefix, component in _PREFIXES:
        if rest.startswith(prefix):
            return peft + prefix, component, rest.removeprefix(prefix)
    return peft, None, rest


def _split_ending(rest: str) -> tuple[str, str]:
    """The layer's name and the tensor's role; the role is empty if the ending is not known."""
    if rest.endswith(_MODULATION):
        return rest.removesuffix(_MODULATION) + ".modulation", "diff"
    for ending, role in _ROLES.items():
        if rest.endswith("." + ending):
            return rest.removesuffix("." + ending), role
    for method, pattern in _METHODS.items():
        found = pattern.match(rest)
        if found:
            return found.group(1), method
    return rest, ""
