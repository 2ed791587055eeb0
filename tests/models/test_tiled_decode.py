"""Decoding in tiles: seams that cannot be seen, frames in their places, memory that length does not change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from homereel.core.plan import Residency
from homereel.core.request import Request
from homereel.engine.clip import Clip
from homereel.engine.run import Run
from homereel.engine.session import Session
from homereel.models.tiled_decode import Tile, decode_in_tiles
from homereel.models.wan.pictures import encode_clip
from tests.passes.conftest import wish
from tests.tiny_hunyuan import save_tiny_hunyuan

FRAME_SCALE, SCALE = 4, 8


def spread(latents: Tensor) -> Tensor:
    """A decoder without context: each latent becomes a block of pixels, the first one a single frame."""
    pixels = latents.repeat_interleave(SCALE, 3).repeat_interleave(SCALE, 4)
    return torch.cat([pixels[:, :, :1], pixels[:, :, 1:].repeat_interleave(FRAME_SCALE, 2)], 2)


@pytest.mark.parametrize("shape", [(9, 10, 14), (2, 3, 20), (1, 16, 16), (23, 4, 4), (5, 7, 4)])
@pytest.mark.parametrize("tiles", [(17, 32, 32), (9, 40, 64), (65, 32, 64), (1, 8, 8)])
def test_every_latent_comes_out_where_it_belongs(shape: tuple[int, ...], tiles: tuple[int, int, int]) -> None:
    latents = torch.randn(1, 3, *shape)
    tile = Tile.of(tiles, frame_scale=FRAME_SCALE, scale=SCALE)
    whole, seen = spread(latents), []

    def decode(part: Tensor) -> Tensor:
        seen.append(tuple(part.shape[2:]))
        return spread(part)

    pieces = list(decode_in_tiles(decode, latents, tile=tile))
    torch.testing.assert_close(torch.cat(pieces, 2), whole, atol=1e-5, rtol=0)  # shares of float32 that make one
    assert all(frames <= max(tile.frames, 3) and rows <= tile.rows and columns <= tile.columns
               for frames, rows, columns in seen)  # fmt: skip


def test_memory_does_not_grow_with_the_clip() -> None:
    tile = Tile.of((9, 32, 32), frame_scale=FRAME_SCALE, scale=SCALE)
    for frames in (12, 48):
        pieces = decode_in_tiles(spread, torch.randn(1, 3, frames, 8, 8), tile=tile)
        assert max(piece.shape[2] for piece in pieces) <= 9


def test_a_seam_between_tiles_that_disagree_is_a_slope() -> None:
    """A decoder that adds a constant of its own to every tile, as one that sees no surroundings might."""
    count = 0

    def decode(part: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return spread(part) + count

    tile = Tile.of((17, 64, 64), frame_scale=FRAME_SCALE, scale=SCALE)
    (video,) = decode_in_tiles(decode, torch.zeros(1, 1, 3, 8, 14), tile=tile)
    row = video[0, 0, 0, 0]
    assert (float(row[0]), float(row[-1])) == (1, 2)
    assert 0 < float(row.diff().max()) <= 1 / (2 * SCALE)
    count = 0
    video = torch.cat(list(decode_in_tiles(decode, torch.zeros(1, 1, 8, 8, 8), tile=tile)), 2)
    steps = video[0, 0, :, 0, 0].diff()
    assert float(steps.min()) >= 0
    assert float(steps.max()) <= 1 / FRAME_SCALE + 1e-6


def _clip(model: str, session: Session, **size: int) -> Clip:
    return Clip(wish(Path(model), **size), run=Run(on_progress=None, should_stop=None), session=session)


def _in_tiles(clip: Clip, *tiles: int) -> None:
    frames, height, width = tiles
    clip.plan = replace(clip.plan, residency=Residency(vae_tiles=(frames, height, width)))


def test_what_pocket_shows_in_tiles_looks_like_the_whole() -> None:
    """A ball on a slope of colours, encoded and decoded."""
    rows, columns, frames = torch.linspace(-1, 1, 96)[:, None], torch.linspace(-1, 1, 96), torch.linspace(-0.5, 0.5, 17)
    ball = ((rows - 0.2) ** 2 + (columns - frames.view(-1, 1, 1)) ** 2 < 0.1).float()
    video = torch.stack([ball * 1.6 - 0.8, rows.expand(96, 96).expand(17, -1, -1) * 0.6, ball * 0 - 0.3])[None]
    with Session() as session:
        clip = Clip(
            Request(prompt="a ball", model="pocket", width=96, height=96, num_frames=17, seed=1),
            run=Run(on_progress=None, should_stop=None),
            session=session,
        )
        latents = encode_clip(session.component("vae", dtype=clip.plan.dtype), video, whole=True)
        whole = _decoded(clip, latents)
        _in_tiles(clip, 13, 64, 64)
        tiled = _decoded(clip, latents)
    assert tiled.shape == whole.shape == (17, 96, 96, 3)
    decibels = 10 * torch.log10(255**2 / (tiled - whole).square().mean())
    assert 28 < float(decibels) < 80


def test_hunyuan_begins_a_clip_in_pieces_as_the_whole_does(tmp_path: Path) -> None:
    """A causal decoder does not see what comes later: only where a piece begins anew is there a difference."""
    with Session() as session:
        clip = _clip(str(save_tiny_hunyuan(tmp_path)), session, width=64, height=64, num_frames=25)
        latents = torch.randn(clip.family.stages(clip.plan)[0].noise[0], generator=torch.Generator().manual_seed(3))
        whole = _decoded(clip, latents)
        _in_tiles(clip, 17, 64, 64)
        pieces = _decoded(clip, latents)
    assert pieces.shape == whole.shape == (25, 64, 64, 3)
    # Five latent frames a piece, of which one is shared: 17 frames, of which the last four fade.
    assert float((pieces[:13] - whole[:13]).abs().max()) <= 1
    assert not torch.equal(pieces[13:], whole[13:])


def _decoded(clip: Clip, latents: Tensor) -> Tensor:
    pieces = clip.family.decode(latents, plan=clip.plan, use=clip._use)
    return torch.cat([torch.from_numpy(piece).float() for piece in pieces])
