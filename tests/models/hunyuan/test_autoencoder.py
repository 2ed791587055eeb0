"""How a HunyuanVideo-1.5 decodes: as diffusers does, without its mask, in tiles where a clip is large."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from homereel.core.errors import GenerationFailed
from homereel.models.hunyuan import facts as hunyuan_facts
from homereel.models.picture import to_frames
from tests.models.hunyuan.calls import CPU, Squares, family_of, noise, plan_of


def their_vae(folder: Path) -> Any:
    from diffusers import AutoencoderKLHunyuanVideo15

    return AutoencoderKLHunyuanVideo15.from_pretrained(folder / "vae")


def test_decoding_is_diffusers_own_without_its_mask(words_dir: Path) -> None:
    family, latents = family_of(words_dir), noise(1, 4, 3, 3, 4)
    vae: Any = family.load("vae", **CPU)
    with torch.no_grad():
        expected = their_vae(words_dir).decode(latents / 1.03682).sample[0]
    with Squares(3 * 3 * 4) as look:
        found = vae.decoder.mid_block.attentions[0](noise(1, 8, 3, 3, 4))
    assert look.found == 0
    with torch.no_grad():
        theirs = their_vae(words_dir).decoder.mid_block.attentions[0](noise(1, 8, 3, 3, 4))
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
    plan = plan_of(family, width=64, height=48, num_frames=9)
    (frames,) = family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae))
    # One level: both round, and sums in another order may fall on the other side of a half.
    assert int(np.abs(to_frames(expected).astype(int) - frames).max()) <= 1


def test_large_clips_are_decoded_in_tiles(words_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, latents = family_of(words_dir), noise(1, 4, 2, 18, 17)
    vae: Any = family.load("vae", **CPU)
    plan = plan_of(family, width=272, height=288, num_frames=5)
    (whole,) = family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae))
    monkeypatch.setattr(hunyuan_facts, "WHOLE_DECODE_BYTES", 0)
    (tiled,) = family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae))
    stock = their_vae(words_dir)
    stock.enable_tiling()
    with torch.no_grad():
        expected = to_frames(stock.decode(latents / 1.03682).sample[0])
    assert int(np.abs(expected.astype(int) - tiled).max()) <= 1
    assert tiled.shape == whole.shape
    assert not np.array_equal(tiled, whole), "else one of them is not what it says"


def test_frames_that_are_not_finite_fail(words_dir: Path) -> None:
    family = family_of(words_dir)
    vae = family.load("vae", **CPU)
    plan = plan_of(family, width=48, height=48, num_frames=5)
    broken = torch.full((1, 4, 2, 3, 3), torch.nan)
    with pytest.raises(GenerationFailed, match="not finite"):
        list(family.decode(broken, plan=plan, use=lambda _name: nullcontext(vae)))
    assert family.preview(0, broken, plan=plan, use=lambda _name: nullcontext(vae)).shape == (5, 16, 16, 3)
