"""A SkyReels-V2 of a few thousand random weights, in the folder layout of its makers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.tiny_models import CARD, TRANSFORMER, save_tiny_model

# Seven latent frames, of which five are carried from window to window, so that a third window is soon reached.
WINDOW_FRAMES = 25
_FIGURES = {"inject_sample_info": True, "rope_max_seq_len": 64}


def save_tiny_skyreels(folder: Path, **figures: Any) -> Path:
    """Text encoder and VAE are those of the tiny Wan; `figures` replace some of the transformer's."""
    from diffusers import SkyReelsV2Transformer3DModel

    save_tiny_model(folder, first_frame=False)
    with torch.random.fork_rng():
        torch.manual_seed(17)
        transformer = SkyReelsV2Transformer3DModel(**{**TRANSFORMER, **_FIGURES, **figures})
    transformer.save_pretrained(folder / "transformer")
    index = json.loads((folder / "model_index.json").read_text())
    index = {name: part for name, part in index.items() if name not in ("expand_timesteps", "transformer_2")}
    index["_class_name"] = "SkyReelsV2DiffusionForcingPipeline"
    index["transformer"] = ["diffusers", "SkyReelsV2Transformer3DModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    defaults = {**CARD["defaults"], "num_frames": WINDOW_FRAMES, "fps": 24}
    (folder / "homereel.json").write_text(json.dumps({**CARD, "defaults": defaults}))
    return folder
