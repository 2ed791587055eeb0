"""A finished clip's latents, kept beside its file, so that another clip can start from them without going through the
decoder and back: refined at another size, or gone on from.

Shape letters: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from homereel import media
from homereel.core.errors import MediaError, UnwritableTarget
from homereel.core.plan import Plan

SUFFIX = ".latents.safetensors"
MAX_BYTES = 4 * 2**30
_FORMAT = "homereel-latents-1"


@dataclass(frozen=True)
class KeptLatents:
    """`latents_BCTHW` are in float32 and normalised, as a family's loop leaves them. `decoder` stands for the
    autoencoder that reads them, `frames_sha256` for the frames that it made of them.
    """

    latents_BCTHW: Tensor
    decoder: str
    frames_sha256: str
    width: int
    height: int
    num_frames: int

    def save(self, path: Path) -> Path:
        """Write it as safetensors, whole or not at all. Raises UnwritableTarget."""
        about = {
            name: str(getattr(self, name)) for name in ("decoder", "frames_sha256", "width", "height", "num_frames")
        }
        part = path.with_name(f".{path.name}-part")
        try:
            save_file({"latents": self.latents_BCTHW.contiguous()}, part, metadata={"format": _FORMAT, **about})
            part.replace(path)
        except (OSError, SafetensorError) as error:
            raise UnwritableTarget(f"{path} cannot be written: {error}") from None
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: Path) -> KeptLatents:
        """Read what `save` wrote. Raises MediaError if it is anything else."""
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            with safe_open(str(path), framework="pt") as stored:
                about = stored.metadata() or {}
                if about.get("format") != _FORMAT:
                    raise ValueError(f"its format is {about.get('format')!r}")
                latents = stored.get_tensor("latents").clone()
            if latents.ndim != 5 or latents.dtype != torch.float32 or not bool(torch.isfinite(latents).all()):
                raise ValueError("it holds no latents of a clip")
            size = {name: int(about[name]) for name in ("width", "height", "num_frames")}
            return cls(latents, about["decoder"], about["frames_sha256"], **size)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise MediaError(f"{path} holds no kept latents of a clip: {error}; give the clip itself") from None


def kept_path(clip: str | Path) -> Path:
    """Where the latents of a clip are kept: clip.mp4.latents.safetensors beside clip.mp4."""
    clip = Path(clip)
    return clip.with_name(clip.name + SUFFIX)


def find_kept(place: Path) -> KeptLatents | None:
    """The latents of a clip, or those in a file of them; None for a clip that has none, or that is not theirs.

    Raises MediaError for a file of latents that is damaged.
    """
    if place.name.endswith(SUFFIX):
        return KeptLatents.load(place)
    beside = kept_path(place)
    if not beside.is_file():
        return None
    record = media.read_record(place) or {"homereel": {}}
    kept = KeptLatents.load(beside)
    return kept if kept.frames_sha256 == record["homereel"].get("frames_sha256") else None


def keep_latents(
    clip: Path, latents_BCTHW: Tensor, *, plan: Plan, frames_sha256: str, file_hashes: Mapping[str, str]
) -> Path:
    """Keep them beside the clip. Raises UnwritableTarget."""
    kept = KeptLatents(
        latents_BCTHW.detach().float().cpu(),
        decoder=decoder_word(file_hashes),
        frames_sha256=frames_sha256,
        width=plan.width,
        height=plan.height,
        num_frames=plan.num_frames,
    )
    return kept.save(kept_path(clip))


def decoder_word(file_hashes: Mapping[str, str]) -> str:
    """One word for an autoencoder: models that share it read each other's latents."""
    weights = sorted(digest for name, digest in file_hashes.items() if name.startswith("vae/"))
    return hashlib.sha256(" ".join(weights).encode()).hexdigest()
