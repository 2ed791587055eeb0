"""Clips that the built-in world drew and `train pocket` encoded, to tune on in the place of a teacher's own.

A teacher's clip costs dozens of passes, a drawn one an encoding. Where only the flow along a clip is compared, either
serves. A shape is that of latents: C channels, T frames, H height, W width.
"""

from __future__ import annotations

import random
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import InvalidRequest
from homereel.training.distillation.texts import FILE, Texts, encode_prompts
from homereel.training.distillation.trajectories import Drawn
from homereel.training.latents import SHARD_CLIPS, Cache
from homereel.training.world import describe

Shape = tuple[int, ...]


def caption_clips(clips: Path, folder: Path, *, family: Any) -> None:
    """Encode a caption of each clip in the cache `clips` into `folder`, once."""
    if (folder / FILE).exists():
        return
    cache, rng = Cache(clips), random.Random("captions")
    captions = [describe(scene, rng) for name in sorted(cache.scenes) for scene in cache.scenes[name]]
    encoder = family.load("text_encoder", device="cpu", dtype="float32")
    encode_prompts(family, encoder, captions, folder, negative="")


def cached_shapes(clips: Path) -> list[Shape]:
    """Of the latents in the cache `clips`."""
    return _shapes(Cache(clips))


class DrawnClips:
    """The cached clips with their captions, which lie in `folder`.

    Raises InvalidRequest if there are others than those that were captioned.
    """

    def __init__(self, clips: Path, folder: Path) -> None:
        self._cache, self.texts = Cache(clips), Texts(folder)
        self._names = sorted(self._cache.scenes)
        counts = [len(self._cache.scenes[name]) for name in self._names]
        if sum(counts) != len(self.texts.prompts):
            raise InvalidRequest(
                f"--clips: {clips} has other clips than when this tuning began; name a new --folder", field="clips"
            )
        self._firsts = dict(zip(self._names, accumulate(counts, initial=0), strict=False))

    def shapes(self) -> list[Shape]:
        """Those that there are."""
        return _shapes(self._cache)

    def shape(self, rng: random.Random) -> Shape:
        """The shape of a clip drawn at random."""
        name = rng.choices(self._names, [len(self._cache.scenes[name]) for name in self._names])[0]
        return _shape(self._cache, name)

    def draw(self, rng: random.Random, count: int, *, shape: Shape, **_: float) -> Drawn:
        """`count` clips of this shape, seen from pure noise: there are no ways of a teacher to be on."""
        name = next(name for name in self._names if _shape(self._cache, name) == shape)
        rows = rng.choices(range(len(self._cache.scenes[name])), k=count)
        clips = torch.stack([_row(self._cache, name, row) for row in rows])
        words = self.texts.states([self._firsts[name] + row for row in rows])
        return Drawn(torch.randn_like(clips), torch.ones(count), clips, words)


def _shapes(cache: Cache) -> list[Shape]:
    return sorted({_shape(cache, name) for name in cache.scenes})


def _shape(cache: Cache, name: str) -> Shape:
    return tuple(cache.latents[name][0].shape[1:])


def _row(cache: Cache, name: str, row: int) -> Tensor:
    return cache.latents[name][row // SHARD_CLIPS][row % SHARD_CLIPS].float()
