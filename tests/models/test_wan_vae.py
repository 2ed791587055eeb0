"""The whole-clip path through Wan's autoencoder gives what diffusers' frame-by-frame path gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from homereel.models.wan.vae import decode_latents, encode_video, patchify, unpatchify

FLAT = {
    "base_dim": 8,
    "dim_mult": [1, 2, 2],
    "temperal_downsample": [False, True],
    "num_res_blocks": 1,
    "z_dim": 4,
}
RESIDUAL = FLAT | {"temperal_downsample": [True, True], "is_residual": True, "patch_size": 2, "in_channels": 12,
                   "out_channels": 12}  # fmt: skip


@pytest.fixture(params=[FLAT, RESIDUAL], ids=["wan2.1", "wan2.2"])
def vae(request: pytest.FixtureRequest) -> Any:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return AutoencoderKLWan(**request.param, latents_mean=[0.0] * 4, latents_std=[1.0] * 4).eval()


@pytest.mark.parametrize("num_frames", [1, 5, 9])
def test_whole_clip_equals_frame_by_frame(vae: Any, num_frames: int) -> None:
    """fp32; the order of sums differs between the two paths, hence 1e-5."""
    video = torch.rand(1, 3, num_frames, 16, 24) * 2 - 1
    with torch.no_grad():
        expected = vae.encode(video).latent_dist.parameters
        moments = encode_video(vae, video)
        torch.testing.assert_close(moments, expected, rtol=0, atol=1e-5)
        latents = expected[:, :4]
        restored = decode_latents(vae, latents).clamp(-1, 1)
        torch.testing.assert_close(restored, vae.decode(latents).sample, rtol=0, atol=1e-5)


def test_the_first_frames_do_not_depend_on_later_ones(vae: Any) -> None:
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    with torch.no_grad():
        whole, first = encode_video(vae, video), encode_video(vae, video[:, :, :1])
    torch.testing.assert_close(whole[:, :, :1], first, rtol=0, atol=1e-5)


def test_patches_unfold_to_what_was_folded() -> None:
    video = torch.rand(2, 3, 4, 8, 12)
    folded = patchify(video, 2)
    assert folded.shape == (2, 12, 4, 4, 6)
    assert torch.equal(unpatchify(folded, 2), video)
