"""How strongly a layer of a LoRA acts at strength 1: alpha / rank, with the alpha from wherever the file has it."""

from __future__ import annotations

import math
import re

from homereel.core.errors import WeightsError
from homereel.weights.lora.file import LoraFile
from homereel.weights.lora.layers import LoraLayer

_PLAIN_NAME = re.compile(r"^\^?[\w.]+\$?$")


def layer_alpha(lora: LoraFile, layer: LoraLayer) -> float | None:
    """The layer's alpha from its own tensor, or from PEFT's configuration; None if the file has none.

    Raises WeightsError if it is no finite number.
    """
    alpha: object = None
    if "alpha" in layer.keys:
        alpha = lora.number(layer.keys["alpha"])
    elif lora.peft:
        alpha = _peft_alpha(lora, layer)
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise WeightsError(f"{lora.path}: the alpha of {layer.name} is {alpha!r}; it must be a finite number")
    return float(alpha)


def layer_scale(lora: LoraFile, layer: LoraLayer, *, rank: int) -> float:
    """The factor of up @ down. Without an alpha it is 1, as trainers mean it."""
    alpha = layer_alpha(lora, layer)
    if alpha is None:
        return 1.0
    from_peft = "alpha" not in layer.keys
    return alpha / math.sqrt(rank) if from_peft and lora.peft.get("use_rslora") else alpha / rank


def _peft_alpha(lora: LoraFile, layer: LoraLayer) -> object:
    patterns = lora.peft.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise WeightsError(f"{lora.path}: alpha_pattern is no table of alphas")
    for pattern, alpha in patterns.items():
        if not _PLAIN_NAME.match(pattern):  # a pattern from a stranger could search for hours
            raise WeightsError(f"{lora.path}: the alpha pattern {pattern!r} is not the plain name of a layer")
        plain = pattern.removeprefix("^").removesuffix("$")
        whole_name = pattern.startswith("^")
        if layer.name == plain or (not whole_name and layer.name.endswith("." + plain)):
            return alpha
    return lora.peft.get("lora_alpha")
