"""A cache of encoded clips: drawn once, encoded once, read many times by the transformer's trainer.

Shards are safetensors files whose metadata holds the scenes; a trainer picks up new shards while they are written.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.models.wan.vae import encode_video, latent_statistics
from homereel.training.autoencoder import to_video
from homereel.training.ranks import Rank
from homereel.training.world import Scene, draw, sample_scene

SHARD_CLIPS = 64
SHAPES = {"square": (96, 96), "wide": (80, 144), "large": (208, 208)}
"""Heights and widths in pixels that the transformer is trained on."""


def write_shard(vae: Any, folder: Path, index: int, *, shape: str, num_frames: int = 33, seed: int = 0) -> Path:
    """Draw and encode one shard of clips; the same arguments give the same clips."""
    from safetensors.torch import save_file

    path = folder / f"{shape}_{index:05d}.safetensors"
    if path.exists():
        return path
    rng = random.Random(f"latents {seed} {shape} {index}")
    height, width = SHAPES[shape]
    mean, spread = latent_statistics(vae)
    device = next(vae.parameters()).device
    scenes = [sample_scene(rng) for _ in range(SHARD_CLIPS)]
    encoded = []
    with torch.no_grad():
        for start in range(0, SHARD_CLIPS, 4):
            clips = [
                draw(scene, height=height, width=width, num_frames=num_frames).frames_TCHW
                for scene in scenes[start : start + 4]
            ]
            moments = encode_video(vae, to_video(torch.stack(clips)).to(device))
            latents = moments[:, : moments.shape[1] // 2]
            encoded.append(((latents - mean.to(device)) / spread.to(device)).half().cpu())
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{path.name}.{shape}.partial"
    save_file(
        {"latents": torch.cat(encoded)},
        partial,
        metadata={"scenes": json.dumps([asdict(scene) for scene in scenes])},
    )
    partial.replace(path)
    return path


def fill_cache(
    rank: Rank,
    vae_folder: Path,
    folder: Path,
    *,
    num_clips: int,
    wide_share: float,
    num_large: int = 0,
    num_frames: int = 33,
) -> None:
    """Write as many shards as `num_clips` need, and those of `num_large` large clips; the ranks take turns."""
    from diffusers import AutoencoderKLWan

    vae: Any = AutoencoderKLWan.from_pretrained(vae_folder, torch_dtype=torch.float32).eval().to(rank.device)
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    for index in range(rank.index, -(-num_clips // SHARD_CLIPS), rank.count):
        is_wide = int((index + 1) * wide_share) > int(index * wide_share)
        write_shard(vae, folder, index, shape="wide" if is_wide else "square", num_frames=num_frames)
    for index in range(rank.index, -(-num_large // SHARD_CLIPS), rank.count):
        write_shard(vae, folder, index, shape="large", num_frames=num_frames)


class Cache:
    """The shards of a folder in memory, one pool a shape."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: set[Path] = set()
        self.latents: dict[str, list[Tensor]] = {}
        self.scenes: dict[str, list[Scene]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read shards that appeared since."""
        from safetensors import safe_open

        for path in sorted(self.folder.glob("*_*.safetensors")):
            if path in self._read or path.name.startswith("."):
                continue
            with safe_open(path, "pt") as file:
                shape = path.name.split("_")[0]
                self.latents.setdefault(shape, []).append(file.get_tensor("latents"))
                scenes = [Scene(**row) for row in json.loads(file.metadata()["scenes"])]
                self.scenes.setdefault(shape, []).extend(scenes)
            self._read.add(path)

    def __len__(self) -> int:
        return sum(len(scenes) for scenes in self.scenes.values())

    @property
    def channels(self) -> int:
        """Latent channels."""
        return next(iter(self.latents.values()))[0].shape[1]

    def draw(
        self, rng: random.Random, *, shape: str, count: int, weight: Callable[[Scene], float] | None = None
    ) -> tuple[Tensor, list[Scene]]:
        """`count` random clips of a shape: latents (count, C, T, H, W) float32 and their scenes.

        A scene is drawn in proportion to its `weight`; all alike without one.
        """
        weights = None if weight is None else [weight(scene) for scene in self.scenes[shape]]
        chosen = rng.choices(range(len(self.scenes[shape])), weights, k=count)
        latents = torch.stack([self.latents[shape][i // SHARD_CLIPS][i % SHARD_CLIPS] for i in chosen]).float()
        return latents, [self.scenes[shape][i] for i in chosen]
