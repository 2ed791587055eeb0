"""Trains the video transformer by flow matching (Lipman et al., 2023; Liu et al., 2023) on cached latents.

A clip's latents are causal: its first k frames alone are what the first k frames of a shorter clip encode to. So
training starts on single frames, where colours, shapes and light are learnt at a ninth of the cost, and grows to
whole clips. In part of the batches the first frame is given clean, at time zero, as Wan2.2's TI2V-5B takes an image.
Shape letters: B batch, C channels, T latent frames, H height, W width, L tokens.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.training.latents import SHAPES, Cache
from homereel.training.muon import Muon
from homereel.training.ranks import Rank
from homereel.training.run import Budget, MovingAverage, Run, learning_rate_factor, pack, unpack
from homereel.training.text_encoder import encode_text, with_unknown_words
from homereel.training.world import describe

# How many latent frames a large clip has, and how often: where things lie is learnt from few, and that is what is new.
_LARGE_FRAMES = ((1, 3, 5, 9), (4, 3, 2, 3))


@dataclass(frozen=True)
class Phase:
    """A part of the budget: until which share of it, how many latent frames, how many clips a rank and step."""

    until: float
    num_frames: int
    batch_size: int


@dataclass(frozen=True)
class TransformerRecipe:
    """How the transformer is built and trained."""

    num_heads: int = 3
    head_dim: int = 64
    ffn_dim: int = 768
    num_layers: int = 6
    learning_rate: float = 2e-3
    phases: tuple[Phase, ...] = (
        Phase(0.10, 1, 64),
        Phase(0.25, 3, 24),
        Phase(0.45, 5, 16),
        Phase(1.0, 9, 8),
    )
    emphasis: Mapping[str, float] = field(default_factory=dict)
    """How often a clip is drawn, by shape or motion, against 1; what is hard is seen more often."""
    wide_share: float = 0.15
    large_share: float = 0.0
    """Of the steps, on clips of 208x208: of 1,521 tokens, five times as many as a square clip has."""
    empty_caption_share: float = 0.1
    unknown_share: float = 0.2
    first_frame_share: float = 0.2
    noise_mean: float = 0.5
    noise_spread: float = 1.1
    """The time of the noise is the sigmoid of a normal variable with this mean and spread."""
    average_decay: float = 0.998
    seed: int = 0


def build_transformer(recipe: TransformerRecipe, *, text_dim: int, channels: int = 16) -> Any:
    """A small WanTransformer3DModel; its output starts at zero."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(recipe.seed)
    model: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=recipe.num_heads,
        attention_head_dim=recipe.head_dim,
        in_channels=channels,
        out_channels=channels,
        text_dim=text_dim,
        freq_dim=128,
        ffn_dim=recipe.ffn_dim,
        num_layers=recipe.num_layers,
        rope_max_seq_len=64,
    )
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.bias.zero_()
    return model


def train_transformer(
    rank: Rank,
    recipe: TransformerRecipe,
    budget: Budget,
    folder: Path,
    *,
    text_folder: Path,
    cache_folder: Path,
    start_folder: Path | None = None,
) -> None:
    """Train until the budget is spent; leaves `folder/transformer` (averaged weights) now and then and at the end.

    With `start_folder`, a transformer in diffusers layout, training goes on from its weights.
    """
    tokenizer, encoder = _load_text(text_folder, rank)
    cache = Cache(cache_folder)
    model = build_transformer(recipe, text_dim=encoder.config.d_model, channels=cache.channels)
    if start_folder is not None:
        model = type(model).from_pretrained(start_folder, torch_dtype=torch.float32)
    model = model.to(rank.device).train()
    optimizers = _optimizers(model, recipe)
    average = MovingAverage(model, decay=recipe.average_decay)
    run = Run(folder, rank)
    if (saved := run.load()) is not None:
        unpack(saved[0], model, average, *optimizers)
        budget.resume(step=saved[1]["step"], spent_seconds=saved[1]["spent_seconds"])
    smooth: float | None = None
    samples = 0
    while not rank.any(budget.share() >= 1):
        share, step = budget.share(), budget.step
        _set_rates(optimizers, recipe.learning_rate * learning_rate_factor(share, step, warm_up_steps=30))
        torch.manual_seed(hash((recipe.seed, rank.index, step)) & 0x7FFFFFFF)
        batch = _batch(recipe, rank, step, share, cache)
        with rank.autocast():
            loss = flow_loss(model, batch, encode=lambda captions: encode_text(tokenizer, encoder, captions)[0])
        loss.backward()
        norm = rank.average_gradients(model.parameters())
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), 1.0, torch.tensor(norm))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update(model, step=step)
        budget.step += 1
        samples += len(batch.captions) * rank.count
        smooth = loss.item() if smooth is None else smooth + (loss.item() - smooth) * 0.02
        if step % 50 == 0:
            run.log(budget, loss=smooth, norm=norm, frames=batch.latents.shape[2], samples=samples)
            cache.refresh()
        if run.due():
            _save(run, model, average, optimizers, budget=budget, recipe=recipe)
    _save(run, model, average, optimizers, budget=budget, recipe=recipe)


@dataclass(frozen=True)
class Batch:
    """Clean latents, noise, time (B,) in 0..1, captions, and whether the first frame is given."""

    latents: Tensor
    noise: Tensor
    time: Tensor
    captions: list[str]
    first_frame_given: bool


def flow_loss(model: Any, batch: Batch, *, encode: Any) -> Tensor:
    """Mean squared error of the predicted velocity, noise minus clip, at a point on the straight way between them."""
    time = batch.time.view(-1, 1, 1, 1, 1)
    noisy = torch.lerp(batch.latents, batch.noise, time)
    timestep = batch.time * 1000
    if batch.first_frame_given:
        noisy[:, :, :1] = batch.latents[:, :, :1]
        _, _, t, h, w = noisy.shape
        first = torch.arange(t * h * w // 4, device=noisy.device) < h * w // 4
        timestep = torch.where(first, 0.0, timestep.unsqueeze(1))
    with torch.no_grad():
        text = encode(batch.captions)
    velocity = model(noisy, timestep, text, return_dict=False)[0].float()
    error = (velocity - (batch.noise - batch.latents)).square()
    graded: Tensor = error[:, :, 1:] if batch.first_frame_given else error
    return graded.mean()


def _batch(recipe: TransformerRecipe, rank: Rank, step: int, share: float, cache: Cache) -> Batch:
    rng = random.Random(f"clips {recipe.seed} {rank.index} {step}")
    common = random.Random(f"shape {recipe.seed} {step}")
    phase = next(phase for phase in recipe.phases if share <= phase.until)
    shape = _shape(common, recipe, cache)
    num_frames, count = phase.num_frames, phase.batch_size
    if shape == "large":
        num_frames = min(num_frames, common.choices(*_LARGE_FRAMES)[0])
        count = max(1, round(count * _tokens("square", phase.num_frames) / _tokens("large", num_frames)))
    latents, scenes = cache.draw(
        rng,
        shape=shape,
        count=count,
        weight=lambda scene: recipe.emphasis.get(scene.shape, 1.0) * recipe.emphasis.get(scene.motion, 1.0),
    )
    latents = latents[:, :, :num_frames].contiguous().to(rank.device)
    captions = []
    for scene in scenes:
        caption = describe(scene, rng)
        if rng.random() < recipe.empty_caption_share:
            caption = ""
        elif rng.random() < recipe.unknown_share:
            caption = with_unknown_words(caption, rng)
        captions.append(caption)
    spread_evenly = (torch.arange(count) + torch.rand(count)) / count
    normal = torch.special.ndtri(spread_evenly.clamp(1e-4, 1 - 1e-4))
    time = torch.sigmoid(normal * recipe.noise_spread + recipe.noise_mean).to(rank.device)
    given = num_frames > 1 and common.random() < recipe.first_frame_share
    return Batch(latents, torch.randn_like(latents), time, captions, given)


def _shape(common: random.Random, recipe: TransformerRecipe, cache: Cache) -> str:
    """All ranks have the same."""
    shares = {"large": recipe.large_share, "wide": recipe.wide_share}
    left = common.random()
    for shape, share in shares.items():
        if shape in cache.scenes and (left := left - share) < 0:
            return shape
    return "square"


def _tokens(shape: str, num_frames: int) -> int:
    height, width = SHAPES[shape]
    return num_frames * (height // 16) * (width // 16)


def _load_text(folder: Path, rank: Rank) -> tuple[Any, Any]:
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    encoder: Any = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return tokenizer, encoder.eval().requires_grad_(False).to(rank.device)


def _optimizers(model: Any, recipe: TransformerRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embeddings, norms, modulation and output."""
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.97), weight_decay=0.0)
    return [adam, Muon(matrices, lr=recipe.learning_rate, weight_decay=0.01)]


def _set_rates(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimizer, factor in zip(optimizers, (1.0, 1.3), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def _save(
    run: Run,
    model: Any,
    average: MovingAverage,
    optimizers: list[torch.optim.Optimizer],
    *,
    budget: Budget,
    recipe: TransformerRecipe,
) -> None:
    if not run.rank.is_first:
        return
    run.save(pack(model, average, *optimizers), {"step": budget.step, "spent_seconds": budget.elapsed()})
    averaged = build_transformer(recipe, text_dim=model.config.text_dim, channels=model.config.in_channels)
    averaged.load_state_dict(model.state_dict())
    average.copy_to(averaged)
    averaged.save_pretrained(run.folder / "transformer")
