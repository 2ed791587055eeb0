"""Trains the text encoder before the video model sees it: every token must tell what the whole caption says.

Two colours in one sentence are the hard part ("a red ball on a green floor"). Here each token's output has to name
all traits of the scene, so whichever token the video model attends to, it learns which colour belongs to what.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from homereel.training.ranks import Rank
from homereel.training.run import Budget, MovingAverage, Run, learning_rate_factor, pack, unpack
from homereel.training.world import Scene, describe, sample_scene, words
from homereel.training.world.scene import CAMERAS, FLOOR_COLORS, LIGHTS, MOTIONS, OBJECT_COLORS, SHAPES, SIZES

MAX_TOKENS = 32
UNSAID = "unsaid"
TRAITS: dict[str, tuple[str, ...]] = {
    "color": tuple(OBJECT_COLORS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "camera": CAMERAS,
    "light": tuple(LIGHTS),
    "floor": (*FLOOR_COLORS, UNSAID),
    "size": tuple(SIZES),
}


@dataclass(frozen=True)
class TextRecipe:
    """How the text encoder is built and trained."""

    dim: int = 192
    num_layers: int = 3
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    unknown_share: float = 0.2
    """Share of captions into which words outside the vocabulary are mixed."""
    seed: int = 0


def build_tokenizer() -> Any:
    """A word-level tokenizer over the captions' vocabulary, in the layout that transformers loads."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    for word in words():
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    )


def build_text_encoder(vocabulary_size: int, recipe: TextRecipe) -> Any:
    """A small UMT5EncoderModel."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(recipe.seed)
    encoder: Any = UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary_size,
            d_model=recipe.dim,
            d_kv=32,
            d_ff=2 * recipe.dim,
            num_layers=recipe.num_layers,
            num_heads=recipe.dim // 32,
            dropout_rate=0.0,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
    _look_at_neighbours(encoder)
    return encoder


def _look_at_neighbours(encoder: Any, *, strength: float = 3.0) -> None:
    """Start four heads of each layer on the next, previous, second next and second previous word.

    Without it training rests for long at "one of these two colours": which noun a colour belongs to is a matter of
    place alone. In the table of relative positions the upper half stands for words that follow.
    """
    with torch.no_grad():
        for name, table in encoder.named_parameters():
            if "relative_attention_bias" in name:
                half = table.shape[0] // 2
                for head, bucket in enumerate((half + 1, 1, half + 2, 2)):
                    table[bucket, head] += strength


def train_text_encoder(rank: Rank, recipe: TextRecipe, budget: Budget, folder: Path) -> None:
    """Train until the budget is spent; leaves `folder/text_encoder` and `folder/tokenizer`."""
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(len(tokenizer), recipe)
    reader = _Reader(encoder, recipe.dim).to(rank.device)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    average = MovingAverage(reader, decay=0.98)
    run = Run(folder, rank)
    if (saved := run.load()) is not None:
        unpack(saved[0], reader, average, optimizer)
        budget.resume(step=saved[1]["step"], spent_seconds=saved[1]["spent_seconds"])
    while not rank.any(budget.share() >= 1):
        rate = recipe.learning_rate * learning_rate_factor(budget.share(), budget.step, warm_up_steps=20)
        optimizer.param_groups[0]["lr"] = rate
        captions, labels = _batch(recipe, rank, budget.step)
        with rank.autocast():
            loss, correct = reader(tokenizer, captions, {k: v.to(rank.device) for k, v in labels.items()})
        optimizer.zero_grad()
        loss.backward()
        norm = rank.average_gradients(reader.parameters())
        torch.nn.utils.clip_grads_with_norm_(reader.parameters(), 1.0, torch.tensor(norm))
        optimizer.step()
        average.update(reader, step=budget.step)
        budget.step += 1
        if budget.step % 25 == 0:
            run.log(budget, loss=loss.item(), **correct)
        if run.due():
            run.save(pack(reader, average, optimizer), {"step": budget.step, "spent_seconds": budget.elapsed()})
    run.save(pack(reader, average, optimizer), {"step": budget.step, "spent_seconds": budget.elapsed()})
    if rank.is_first:
        average.copy_to(reader)
        encoder.save_pretrained(folder / "text_encoder")
        tokenizer.save_pretrained(folder / "tokenizer")


def encode_text(tokenizer: Any, encoder: Any, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Text states (B, 32, dim) with zeros after the end of each caption, and the mask (B, 32) of real tokens."""
    batch = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    device = next(encoder.parameters()).device
    mask = batch.attention_mask.to(device)
    states = encoder(batch.input_ids.to(device), mask).last_hidden_state
    return states * mask.unsqueeze(-1), mask


def with_unknown_words(caption: str, rng: random.Random) -> str:
    """Mix up to three words that the vocabulary lacks into a caption."""
    parts = caption.split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        parts.insert(rng.randrange(len(parts) + 1), "zzz")
    return " ".join(parts)


class _Reader(nn.Module):
    """The encoder with one linear head a trait, asked of every token and of their mean."""

    def __init__(self, encoder: Any, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({trait: nn.Linear(dim, len(values)) for trait, values in TRAITS.items()})

    def forward(
        self, tokenizer: Any, captions: list[str], labels: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        states, mask = encode_text(tokenizer, self.encoder, captions)
        pooled = states.sum(1) / mask.sum(1, keepdim=True)
        real = mask.bool()
        owner = real.nonzero()[:, 0]
        loss = states.new_zeros(())
        correct = {}
        for trait, head in self.heads.items():
            each, whole = head(states[real]), head(pooled)
            loss = loss + F.cross_entropy(whole, labels[trait]) + F.cross_entropy(each, labels[trait][owner])
            correct[trait] = (each.argmax(1) == labels[trait][owner]).float().mean().item()
        return loss, correct


def _batch(recipe: TextRecipe, rank: Rank, step: int) -> tuple[list[str], dict[str, Tensor]]:
    rng = random.Random(f"text {recipe.seed} {rank.index} {step}")
    captions, scenes = [], []
    for _ in range(recipe.batch_size):
        scene = sample_scene(rng)
        caption = describe(scene, rng)
        scenes.append((scene, "floor" in caption or "ground" in caption))
        captions.append(with_unknown_words(caption, rng) if rng.random() < recipe.unknown_share else caption)
    return captions, {trait: torch.tensor([_label(trait, *s) for s in scenes]) for trait in TRAITS}


def _label(trait: str, scene: Scene, floor_is_said: bool) -> int:
    value = UNSAID if trait == "floor" and not floor_is_said else getattr(scene, trait)
    return TRAITS[trait].index(value)
