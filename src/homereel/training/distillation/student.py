"""The finished student as a model folder: the teacher's other parts, its own transformer and card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.core.request import SamplerName
from homereel.models.card import CARD_FILE
from homereel.passes.sparse_attention import SparseAttention
from homereel.sampling import rcm_times
from homereel.training.distillation.recipe import Sparse
from homereel.weights.model_folder import TUNED_ATTENTION

TRANSFORMER = "transformer"
PROJECTIONS_FILE = f"{TRANSFORMER}/{TUNED_ATTENTION}.safetensors"
_PROJECTION = ".proj_l."
_WEIGHTS = "diffusion_pytorch_model.safetensors"


def lay_out(teacher: Path, target: Path) -> None:
    """Everything of the teacher but its transformer's weights. Large files are linked where the disk allows it."""
    for source in sorted(teacher.rglob("*")):
        place = target / source.relative_to(teacher)
        is_weights = source.parent.name == TRANSFORMER and source.name != "config.json"
        if source.is_dir() or is_weights:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        _link(source.resolve(), place)


def write_weights(state: Mapping[str, Tensor], target: Path) -> None:
    """The transformer's weights in bfloat16, in one rename, without projections of sparse attention."""
    from safetensors.torch import save_file

    folder = target / TRANSFORMER
    folder.mkdir(parents=True, exist_ok=True)
    short = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in state.items()
        if _PROJECTION not in name
    }
    partial = folder / f".{_WEIGHTS}.partial"
    save_file(short, partial, {"format": "pt"})
    partial.replace(folder / _WEIGHTS)


def write_projections(state: Mapping[str, Tensor], target: Path, *, ratio: float, first_layers: int) -> None:
    """Those of sparse attention, in float32 beside the transformer's weights, where loading finds them."""
    from safetensors.torch import save_file

    found = {name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items() if _PROJECTION in name}
    partial = target / TRANSFORMER / f".{TUNED_ATTENTION}.partial"
    save_file(found, partial, {"format": "pt", "ratio": f"{ratio:g}", "first_layers": str(first_layers)})
    partial.replace(target / PROJECTIONS_FILE)


def write_card(target: Path, *, times: tuple[float, ...], sampler: SamplerName, sparse: Sparse | None = None) -> None:
    """homereel.json: the teacher's, with what the student's clips need.

    That is its steps, no guidance, its times where they are its own, and the sparse attention that it was trained with.
    """
    card = read_card(target)
    num_steps = len(times) - 1
    clip = {**card.get("defaults", {}), "steps": num_steps, "guidance": 1.0, "sampler": sampler}
    clip.pop("guidance_2", None)
    if num_steps > 4 or times != rcm_times(num_steps):
        clip["sigmas"] = list(times)
    if sparse is not None:
        clip |= own_passes(sparse)
    _write(target, {**card, "defaults": clip})


def own_passes(sparse: Sparse) -> dict[str, Any]:
    """What a card's standard clip says of the sparse attention that a model was trained with."""
    own = SparseAttention(ratio=sparse.ratio, first_layers=sparse.first_layers, first_steps=0.0, order=sparse.order)
    return {"passes": [own.spec], "passes_from_tokens": sparse.from_tokens}


def add_to_card(target: Path, of_clip: Mapping[str, Any]) -> None:
    """Change these settings of the standard clip."""
    card = read_card(target)
    _write(target, {**card, "defaults": {**card.get("defaults", {}), **of_clip}})


def read_card(folder: Path) -> dict[str, Any]:
    """homereel.json as it stands, or the least that one may be."""
    path = folder / CARD_FILE
    card: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"schema": 1}
    return card


def _write(target: Path, card: Mapping[str, Any]) -> None:
    partial = target / f".{CARD_FILE}.partial"
    partial.write_text(json.dumps(card, indent=2) + "\n")
    partial.replace(target / CARD_FILE)  # which may be a link to the teacher's


def _link(source: Path, place: Path) -> None:
    if source.stat().st_size > 1024**2:
        try:
            os.link(source, place)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, place)
    else:
        shutil.copyfile(source, place)
