"""Wan's decoder piece by piece gives what diffusers' own gives latent frame by latent frame, and needs no more memory
for a longer clip.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from homereel.models.wan import stream
from homereel.models.wan.stream import decode_pieces
from homereel.models.wan.vae import decode_latents

SMALL = {"base_dim": 8, "dim_mult": [1, 2, 2], "temperal_downsample": [False, True], "num_res_blocks": 1, "z_dim": 4}
VAES: dict[str, dict[str, Any]] = {
    "wan2.1": SMALL,
    "wan2.2": SMALL
    | {
        "temperal_downsample": [True, True],
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
    },
    "many channels": SMALL | {"base_dim": 48, "dim_mult": [1, 2], "temperal_downsample": [True]},
}
# float32; sums in another order, and fewer multiplications, through some twenty layers. Values are of the order of 1.
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=VAES)
def vae(request: pytest.FixtureRequest) -> Any:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    made = AutoencoderKLWan(**VAES[request.param], latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    with torch.no_grad():  # as trained: norms and biases that do something
        for name, parameter in made.named_parameters():
            if name.endswith(("gamma", "bias")):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return made.eval().requires_grad_(False)


def noise(num_frames: int, *, rows: int = 3, columns: int = 5) -> Tensor:
    return torch.randn(1, 4, num_frames, rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("num_frames", "at_once"), [(1, 4), (2, 1), (4, 1), (6, 2), (6, 4), (6, 8)])
def test_pieces_are_diffusers_own_frames(vae: Any, num_frames: int, at_once: int) -> None:
    """Of odd height and width, and with a last piece that is shorter."""
    latents = noise(num_frames)
    pieces = list(decode_pieces(vae, latents, at_once=at_once))
    found, times = torch.cat(pieces, dim=2).clamp(-1, 1), 2 ** sum(vae.config.temperal_downsample)
    wanted = [1] + [min(at_once, num_frames - done) * times for done in range(1, num_frames, at_once)]
    assert [piece.shape[2] for piece in pieces] == wanted
    with torch.no_grad():
        torch.testing.assert_close(found, vae.decode(latents).sample, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(found, decode_latents(vae, latents).clamp(-1, 1), rtol=0, atol=TOLERANCE)


def test_a_clip_leaves_nothing_for_the_next(vae: Any) -> None:
    first = [piece.clone() for piece in decode_pieces(vae, noise(3), at_once=2)]
    next(decode_pieces(vae, noise(2) + 1, at_once=2))  # one that is given up
    again = list(decode_pieces(vae, noise(3), at_once=2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_what_is_remembered_does_not_grow_with_the_clip(vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Seen(stream._Decoder):
        def __init__(self, vae: Any) -> None:
            super().__init__(vae)
            made.append(self)

    monkeypatch.setattr(stream, "_Decoder", Seen)
    held = []
    for _ in decode_pieces(vae, noise(7), at_once=2):
        memories = [layer._memory for layer in made[0]._layers.values() if layer._memory is not None]
        held.append(sum(memory.untyped_storage().nbytes() for memory in memories))
    assert held[1] == held[2] == held[3] > 0


def test_bfloat16_stays_near(vae: Any) -> None:
    """Eight bits, through some twenty layers: what diffusers' own way in bfloat16 loses, within a factor of 2."""
    from copy import deepcopy

    latents, low = noise(3), deepcopy(vae).bfloat16()
    with torch.no_grad():
        exact = vae.decode(latents).sample
        theirs = low.decode(latents.bfloat16()).sample.float()
    found = torch.cat(list(decode_pieces(low, latents.bfloat16(), at_once=2)), dim=2).clamp(-1, 1).float()
    assert (found - exact).norm() < 2 * (theirs - exact).norm()
