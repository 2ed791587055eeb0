"""The transformer of HunyuanVideo-1.5: masks that are not made, times that stay exact. Whole clips: the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from homereel.models.hunyuan.network import ExactTimes
from tests.models.hunyuan.calls import CPU, Squares, family_of, flow, noise


def test_no_mask_of_the_clip_is_ever_made(words_dir: Path) -> None:
    """With diffusers' own processor the same look finds one in each layer."""
    from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15AttnProcessor2_0

    family = family_of(words_dir)
    network: Any = family.load("transformer", **CPU)
    latents = noise(1, 4, 3, 5, 6)
    with Squares(3 * 5 * 6) as ours:
        found = flow(family, network, latents, passes=2)
    assert ours.found == 0
    for block in network.transformer_blocks:
        block.attn.set_processor(HunyuanVideo15AttnProcessor2_0())
    with Squares(3 * 5 * 6) as theirs:
        expected = flow(family, network, latents)
    assert theirs.found >= 2 * len(family.blocks(network))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_attention_is_asked_for_without_a_mask(words_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.attention_dispatch import dispatch_attention_fn as original

    from homereel.models.hunyuan import attention as hunyuan_attention

    family, masks = family_of(words_dir), []

    def look(*args: Any, attn_mask: Tensor | None, **others: Any) -> Any:
        masks.append(attn_mask)
        return original(*args, attn_mask=attn_mask, **others)

    monkeypatch.setattr(hunyuan_attention, "dispatch_attention_fn", look)
    flow(family, family.load("transformer", **CPU), noise(1, 4, 2, 3, 3), passes=2)
    assert masks == [None] * 2 * 3


def test_times_are_told_apart_in_bfloat16() -> None:
    """Between 512 and 1024 numbers in bfloat16 are four apart; two times that are closer must not become one."""
    from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15TimeEmbedding

    stock = HunyuanVideo15TimeEmbedding(16, use_meanflow=True)
    one, other = torch.tensor([859.2]), torch.tensor([858.4])
    assert torch.equal(ExactTimes(stock)(one, other), stock(one, other))
    stock = stock.to(torch.bfloat16)
    assert torch.equal(stock(one.bfloat16()), stock(other.bfloat16()))
    exact = ExactTimes(stock)
    assert exact(one).dtype == torch.bfloat16
    assert not torch.equal(exact(one), exact(other))
    assert not torch.equal(exact(one, one), exact(one, other))


def test_a_bfloat16_network_computes(words_dir: Path) -> None:
    family = family_of(words_dir)
    short, exact = (family.load("transformer", device="cpu", dtype=dtype) for dtype in ("bfloat16", "float32"))
    latents = noise(1, 4, 2, 3, 3)
    found, expected = flow(family, short, latents), flow(family, exact, latents)
    assert found.dtype == torch.float32
    # Eight bits of each number through three blocks, six times over by guidance.
    assert float((found - expected).norm() / expected.norm()) < 0.1
