"""The whole recipe of the built-in model: autoencoder, text encoder, cached latents, decoder, transformer, export.

Every stage resumes where it was stopped, and a finished stage is not done again, so that
`homereel train pocket` may be called as often as needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from homereel.training import autoencoder, decoder, latents, text_encoder, transformer
from homereel.training.plot import plot_log
from homereel.training.ranks import Rank, default_rank_count, spawn
from homereel.training.run import Budget
from homereel.training.world import words
from homereel.training.world.scene import CAMERAS, FLOOR_COLORS, LIGHTS, MOTIONS, OBJECT_COLORS, SHAPES, SIZES

Stage = Literal["autoencoder", "text", "cache", "decoder", "transformer", "export"]
STAGES: tuple[Stage, ...] = get_args(Stage)
TIME_SHARES: dict[str, float] = {"autoencoder": 0.25, "text": 0.03, "decoder": 0.1, "transformer": 0.57}
"""Of the whole time; the rest goes to the cache."""
START = "start/transformer"
WHOLE_CLIPS = (transformer.Phase(1.0, 9, 8),)
HARD = {
    "star": 1.6,
    "ring": 0.9,
    "box": 1.9,
    "triangle": 1.4,
    "ball": 1.0,
    "spin": 5.0,
    "fall": 1.7,
    "bounce": 1.7,
    "left": 1.2,
    "right": 1.2,
    "rise": 1.2,
    "still": 0.4,
}
"""What exams showed to be hard: corners that move."""
GOING_ON_RATE = 1e-3
"""The learning rate for a model that is trained on; from nothing it is twice as much."""
EXAMPLES = (
    "a red ball bounces on a green floor",
    "a yellow star spins on a purple floor at night",
    "a blue box slides left on a white floor while the camera zooms in",
)


@dataclass(frozen=True)
class PocketRecipe:
    """Everything that decides what comes out."""

    autoencoder: autoencoder.AutoencoderRecipe = field(default_factory=autoencoder.AutoencoderRecipe)
    text: text_encoder.TextRecipe = field(default_factory=text_encoder.TextRecipe)
    transformer: transformer.TransformerRecipe = field(default_factory=transformer.TransformerRecipe)
    decoder: decoder.DecoderRecipe = field(default_factory=decoder.DecoderRecipe)
    num_clips: int = 3072
    """Clips drawn and encoded for the transformer."""
    num_large: int = 0
    """And so many of 208x208, for a transformer whose `large_share` is not 0."""
    minutes: float = 180.0


def train_pocket(
    folder: Path,
    *,
    recipe: PocketRecipe | None = None,
    stages: tuple[Stage, ...] = STAGES,
    start_from: Path | None = None,
    on_line: Callable[[str], None] = print,
) -> Path:
    """Run the stages in order; returns the folder of the finished model, in diffusers layout.

    With `start_from`, the folder of a trained model of this recipe, its autoencoder and text encoder are kept and its
    transformer is trained on, with whole clips only.
    """
    recipe = recipe or PocketRecipe()
    folder.mkdir(parents=True, exist_ok=True)
    if start_from is not None and not (folder / START).exists():
        _take_over(start_from, folder)
    ranks = default_rank_count()
    for stage in stages:
        if _is_done(folder, stage):
            on_line(f"{stage}: done before")
            continue
        on_line(f"{stage}: starts, {ranks} process{'es' if ranks > 1 else ''}")
        _WORK[stage](folder, recipe, ranks)
        (folder / f"{stage}.done").touch()
    return folder / "pocket"


def _take_over(model: Path, folder: Path) -> None:
    """Lay out a trained model's parts as if the first stages had just left them."""
    for source, place, stage in (
        ("vae", "autoencoder/vae", "autoencoder"),
        ("vae", "decoder/vae", "decoder"),
        ("text_encoder", "text/text_encoder", "text"),
        ("tokenizer", "text/tokenizer", "text"),
        ("transformer", START, ""),
    ):
        shutil.copytree(model / source, folder / place, dirs_exist_ok=True)
        if stage:
            (folder / f"{stage}.done").touch()


def _is_done(folder: Path, stage: str) -> bool:
    return (folder / f"{stage}.done").exists()


def _budget(recipe: PocketRecipe, stage: str) -> Budget:
    return Budget(seconds=60 * recipe.minutes * TIME_SHARES[stage])


def _train_autoencoder(folder: Path, recipe: PocketRecipe, ranks: int) -> None:
    budget = _budget(recipe, "autoencoder")
    spawn(autoencoder.train_autoencoder, recipe.autoencoder, budget, folder / "autoencoder", count=ranks)
    plot_log(folder / "autoencoder")


def _train_text(folder: Path, recipe: PocketRecipe, ranks: int) -> None:
    budget = _budget(recipe, "text")
    spawn(text_encoder.train_text_encoder, recipe.text, budget, folder / "text", count=ranks)
    plot_log(folder / "text")


def _fill_cache(folder: Path, recipe: PocketRecipe, ranks: int) -> None:
    spawn(_fill, folder, recipe, count=ranks)


def _fill(rank: Rank, folder: Path, recipe: PocketRecipe) -> None:
    latents.fill_cache(
        rank,
        folder / "autoencoder" / "vae",
        folder / "cache",
        num_clips=recipe.num_clips,
        wide_share=recipe.transformer.wide_share,
        num_large=recipe.num_large,
    )


def _tune_decoder(folder: Path, recipe: PocketRecipe, ranks: int) -> None:
    spawn(_decode, folder, recipe, _budget(recipe, "decoder"), count=ranks)
    plot_log(folder / "decoder")


def _decode(rank: Rank, folder: Path, recipe: PocketRecipe, budget: Budget) -> None:
    decoder.tune_decoder(
        rank,
        recipe.decoder,
        budget,
        folder / "decoder",
        vae_folder=folder / "autoencoder" / "vae",
        cache_folder=folder / "cache",
    )


def _train_transformer(folder: Path, recipe: PocketRecipe, ranks: int) -> None:
    budget = _budget(recipe, "transformer")
    spawn(_transform, folder, recipe, budget, count=ranks)
    plot_log(folder / "transformer")


def _transform(rank: Rank, folder: Path, recipe: PocketRecipe, budget: Budget) -> None:
    started = folder / START if (folder / START).exists() else None
    kind = recipe.transformer
    if started is not None:
        kind = replace(kind, phases=WHOLE_CLIPS, emphasis=HARD, learning_rate=GOING_ON_RATE)
    transformer.train_transformer(
        rank,
        kind,
        budget,
        folder / "transformer",
        text_folder=folder / "text",
        cache_folder=folder / "cache",
        start_folder=started,
    )


def _export(folder: Path) -> None:
    export_pocket(folder, folder / "pocket")


_WORK: dict[Stage, Callable[[Path, PocketRecipe, int], None]] = {
    "autoencoder": _train_autoencoder,
    "text": _train_text,
    "cache": _fill_cache,
    "decoder": _tune_decoder,
    "transformer": _train_transformer,
    "export": lambda folder, _recipe, _ranks: _export(folder),
}


def export_pocket(folder: Path, target: Path) -> Path:
    """Gather the trained parts, in bfloat16 and in diffusers layout, with the card that homereel reads."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import UMT5EncoderModel

    shutil.rmtree(target, ignore_errors=True)
    parts: dict[str, tuple[Any, Path]] = {
        "vae": (AutoencoderKLWan, folder / "decoder" / "vae"),
        "transformer": (WanTransformer3DModel, folder / "transformer" / "transformer"),
        "text_encoder": (UMT5EncoderModel, folder / "text" / "text_encoder"),
    }
    for name, (kind, source) in parts.items():
        kind.from_pretrained(source).to(torch.bfloat16).save_pretrained(target / name)
        _forget_origin(target / name / "config.json")
    shutil.copytree(folder / "text" / "tokenizer", target / "tokenizer")
    scheduler: Any = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0, num_train_timesteps=1000
    )
    scheduler.save_pretrained(target / "scheduler")
    (target / "model_index.json").write_text(json.dumps(_index(), indent=2) + "\n")
    (target / "homereel.json").write_text(json.dumps(_card(), indent=2) + "\n")
    return target


def _forget_origin(path: Path) -> None:
    """Take the folder on the training machine out of a configuration."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _index() -> dict[str, Any]:
    return {
        "_class_name": "WanPipeline",
        "boundary_ratio": None,
        "expand_timesteps": True,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }


def _card() -> dict[str, Any]:
    """What `homereel models info pocket` tells, and the standard clip."""
    named = {
        "colors": tuple(OBJECT_COLORS),
        "shapes": SHAPES,
        "motions": MOTIONS,
        "floors": tuple(FLOOR_COLORS),
        "cameras": CAMERAS,
        "lights": tuple(LIGHTS),
        "sizes": tuple(SIZES),
        "words": tuple(words()),
    }
    return {
        "schema": 1,
        "defaults": {
            "width": 96,
            "height": 96,
            "num_frames": 33,
            "fps": 16,
            "steps": 30,
            "guidance": 4.0,
            "shift": 2.0,
            "sampler": "unipc",
        },
        "max_sequence_length": text_encoder.MAX_TOKENS,
        "words": {kind: list(values) for kind, values in named.items()},
        "examples": list(EXAMPLES),
    }
