"""The LoRA doctor: what a LoRA is, which models of the catalogue it may fit, and what of it applies to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.core.request import LoraUse
from homereel.models.catalogue import CATALOGUE
from homereel.models.registry import find_card, model_folder
from homereel.weights.lora.file import LoraFile, read_lora
from homereel.weights.lora.match import LoraMatch, Shape, match_lora
from homereel.weights.lora.report import LoraReport, inspect_lora, report_lora
from homereel.weights.lora.settings import Expert, LoraSettings, lora_expert, lora_settings
from homereel.weights.model_folder import ModelFolder, packaged_folder

_ASKED: dict[str, Expert] = {"high": "transformer", "low": "transformer_2"}  # by how much noise there is
# By the width of Wan's tokens, what ids of the catalogue have in their names.
_WAN_SIZES = {1536: "1.3b", 5120: "14b", 3072: "5b"}
_WAN_COMMON = {
    "patch_size": (1, 2, 2),
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
}
_WAN_1_3B = {**_WAN_COMMON, "num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
_WAN_14B = {**_WAN_COMMON, "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
_WAN_5B = {
    **_WAN_COMMON,
    "num_attention_heads": 24,
    "ffn_dim": 14336,
    "num_layers": 30,
    "in_channels": 48,
    "out_channels": 48,
}
_FROM_PICTURE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
_WAN = "WanTransformer3DModel"
_HUNYUAN = "HunyuanVideo15Transformer3DModel"
# The transformers of models that are not here, as their config.json files describe them.
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "wan2.1-t2v-1.3b": (_WAN, _WAN_1_3B),
    "wan2.1-t2v-14b": (_WAN, _WAN_14B),
    "wan2.1-i2v-14b-480p": (_WAN, {**_WAN_14B, **_FROM_PICTURE}),
    "wan2.1-i2v-14b-720p": (_WAN, {**_WAN_14B, **_FROM_PICTURE}),
    "wan2.1-flf2v-14b": (_WAN, {**_WAN_14B, **_FROM_PICTURE, "pos_embed_seq_len": 514}),
    "wan2.2-t2v-a14b": (_WAN, _WAN_14B),
    "wan2.2-i2v-a14b": (_WAN, {**_WAN_14B, "in_channels": 36}),
    "wan2.2-ti2v-5b": (_WAN, _WAN_5B),
    **{card.id: (_HUNYUAN, {}) for card in CATALOGUE if card.family == "hunyuanvideo-1.5"},
}


@dataclass(frozen=True)
class LoraCheck:
    """All that is known of a LoRA; `match` is None if there was nothing to compare it with, and `how` says what was."""

    report: LoraReport
    expert: Expert | None
    settings: LoraSettings | None
    candidates: tuple[str, ...]  # ids of models that it may fit
    model: str  # the one it was compared with, or empty
    how: str
    match: LoraMatch | None

    @property
    def usable(self) -> bool:
        """Whether it would change anything."""
        return not self.report.methods and (self.match is None or bool(self.match.changes))


def check_lora(path: str | Path, *, model: str | None = None) -> LoraCheck:
    """Describe a LoRA and compare it with a model: the given one (an id or a folder), else the likeliest.

    Raises WeightsError if the file is missing, damaged or pickled, UnknownModel, or InvalidRequest if a given model
    is neither here nor of known shapes.
    """
    lora = read_lora(path)
    report = report_lora(lora)
    expert = lora_expert(report)
    candidates = models_for_lora(report)
    name, how, shapes = _comparison(model, candidates, component=expert or "transformer")
    return LoraCheck(
        report=report,
        expert=expert,
        settings=lora_settings(report),
        candidates=candidates,
        model=name,
        how=how,
        match=match_lora(lora, shapes, component=expert or "transformer") if shapes else None,
    )


def loras_for(uses: Sequence[LoraUse], *, component: Expert, two_experts: bool) -> tuple[tuple[LoraFile, float], ...]:
    """Those of a request's LoRAs that go into this network, opened and with their strengths, for `apply_loras`.

    In a model with two experts each goes where its use says, else where its name says, else into both.
    """
    chosen = []
    for use in uses:
        lora = read_lora(use.path)
        expert = _ASKED[use.expert] if use.expert else lora_expert(report_lora(lora))
        if not two_experts or expert in (None, component):
            chosen.append((lora, use.strength))
    return tuple(chosen)


def settings_for(uses: Sequence[LoraUse]) -> LoraSettings | None:
    """The settings of the first of a request's LoRAs that needs few steps and acts at all; None if there is none."""
    found = (lora_settings(inspect_lora(use.path)) for use in uses if use.strength > 0)
    return next((settings for settings in found if settings), None)


def models_for_lora(report: LoraReport) -> tuple[str, ...]:
    """Ids of models of the catalogue with this family and width; those made for what it changes come first."""
    ids = [card.id for card in CATALOGUE if card.family == report.family]
    if report.family == "wan":
        size = _WAN_SIZES.get(report.width or 0)
        if size is None:
            return ("pocket",) if report.width == _pocket_width() else ()
        ids = [name for name in ids if f"-{size}" in name or f"-a{size}" in name]
    return tuple(sorted(ids, key=lambda name: _distance(name, report)))


def known_shapes(model: str) -> dict[str, Shape] | None:
    """The transformer's shapes of a model of the catalogue that need not be here; None if they are not known."""
    if model not in _CONFIGS:
        return None
    import diffusers
    import torch

    kind, config = _CONFIGS[model]
    with torch.device("meta"):
        network: Any = getattr(diffusers, kind)(**config)
    return {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}


def _comparison(
    model: str | None, candidates: tuple[str, ...], *, component: Expert
) -> tuple[str, str, dict[str, Shape] | None]:
    """Which model to compare with, in words how, and its shapes; an installed one before one known by its shapes."""
    names = (model,) if model is not None else candidates
    for name in names:
        folder = model_folder(name)
        if folder is not None:
            return name, "its files", _shapes(folder, component=component)
    for name in names:
        shapes = known_shapes(find_card(name).id)
        if shapes:
            return name, "its known shapes; it is not on this machine", shapes
    if model is not None:
        raise InvalidRequest(
            f"{model} is not on this machine, and its shapes are not known without it; `homereel models pull {model}` "
            "fetches it, or leave --model out",
            field="model",
        )
    return "", "not compared: no model that it may fit is on this machine", None


def _shapes(folder: ModelFolder, *, component: Expert) -> dict[str, Shape]:
    present = folder.index().get(component, [None])
    chosen = component if isinstance(present, list) and present[:1] != [None] else "transformer"
    tensors = folder.tensors(chosen)
    return {name.replace(".int8_weight", ".weight"): info.shape for name, info in tensors.items()}


def _pocket_width() -> int:
    folder = packaged_folder("pocket")
    if folder is None:
        return 0
    config = folder.config("transformer")
    return int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def _distance(model: str, report: LoraReport) -> tuple[int, ...]:
    """Small for models that are made for what the LoRA changes and are named in it."""
    words = " ".join((*report.texts, report.base_model)).lower().replace("_", "").replace(" ", "")
    from_picture = any(part in model for part in ("i2v-14b", "flf2v"))
    tasks = [task for task in ("i2v", "t2v") if task in words]
    return (
        int(report.with_control != ("vace" in model)),
        int(report.from_picture and not from_picture),
        int(("wan2.2" in words or "wan22" in words or "a14b" in words) != ("2.2" in model)),
        int(bool(tasks) and not any(task in model for task in tasks)),
        int(model.startswith("turbo")),
        int(from_picture and not report.from_picture),
    )
