"""Tokens in another order: the same clip where attention is whole, other blocks where it is sparse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import homereel
from homereel.core.errors import InvalidRequest, UnsupportedPass
from homereel.kernels.sparse_linear_attention import sparse_linear_attention
from homereel.passes import apply_passes, parse_passes
from homereel.passes.attention import WanSelfAttention
from homereel.passes.token_order import ORDERS, reorder_tokens
from tests.passes.conftest import MACHINE, Call, FirstCall


def long_clip(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of 3 x 8 x 10 tokens, a time, words."""
    words = torch.randn(1, 5, call.load().config.text_dim, generator=torch.Generator().manual_seed(2))
    return torch.randn(1, 4, 3, 16, 20, generator=torch.Generator().manual_seed(1)), torch.tensor([500.0]), words


@pytest.mark.parametrize("spec", ["sparse_attention:1:order={}", "fused_norms,sparse_attention:1:order={}"])
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_dense_attention_says_the_same_in_any_order(spec: str, order: str, first_call: FirstCall) -> None:
    call = first_call("wan")
    network, given = call.load(), long_clip(call)
    wanted = network(*given)[0]
    undo = apply_passes(network, call.family, parse_passes(spec.format(order)))
    torch.testing.assert_close(network(*given)[0], wanted)
    undo()
    assert torch.equal(network(*given)[0], wanted)


@torch.no_grad()
def test_blocks_of_sparse_attention_are_those_of_the_order(first_call: FirstCall) -> None:
    """As if each layer's attention alone took its tokens column by column and gave them back in their places."""
    call = first_call("wan")
    ordered, by_hand, given = call.load(), call.load(), long_clip(call)
    apply_passes(ordered, call.family, parse_passes("sparse_attention:0.3:first_layers=0:first_steps=0:order=wth"))
    places = torch.arange(3 * 8 * 10).view(3, 8, 10).permute(2, 0, 1).flatten()

    def attend(q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, *, projection: nn.Linear) -> Tensor:
        mixed = sparse_linear_attention(*(x[:, places] for x in (q_BLHD, k_BLHD, v_BLHD)), ratio=0.3)
        return mixed[:, places.argsort()]

    for block in by_hand.blocks:
        processor = WanSelfAttention.from_processor(block.attn1.processor)
        processor.add_projection(call.family.block_facts.head_size, device=torch.device("cpu"))
        processor.attend = attend
        block.attn1.set_processor(processor)
    torch.testing.assert_close(ordered(*given)[0], by_hand(*given)[0])
    plain = call.load()
    apply_passes(plain, call.family, parse_passes("sparse_attention:0.3:first_layers=0:first_steps=0"))
    assert not torch.allclose(plain(*given)[0], ordered(*given)[0], rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_time_for_each_token_goes_with_it(first_call: FirstCall) -> None:
    """As Wan2.2's TI2V-5B has it, whose first frame is at time zero."""
    call = first_call("wan")
    network, (latents, _, words) = call.load(), long_clip(call)
    times = torch.linspace(0, 900, 3 * 8 * 10).unsqueeze(0)
    wanted = network(latents, times, words)[0]
    undo = reorder_tokens(network, call.family, order="wth", name="sparse_attention")
    torch.testing.assert_close(network(latents, times, words)[0], wanted)
    undo()
    assert torch.equal(network(latents, times, words)[0], wanted)


def test_a_whole_clip_is_made_in_another_order(tiny_model_dir: Path) -> None:
    clips = [
        homereel.generate(
            "a red ball",
            model=str(tiny_model_dir),
            seed=1,
            width=128,
            height=128,
            passes=f"sparse_attention:0.2:first_steps=0:first_layers=0{order}",
        )
        for order in ("", ":order=wth")
    ]
    assert clips[1].plan.passes == ("sparse_attention:0.2:first_layers=0:first_steps=0:order=wth",)
    assert (clips[0].frames != clips[1].frames).any()


def test_orders_that_cannot_be_are_refused(first_call: FirstCall, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="order is one of thw, twh"):
        parse_passes("sparse_attention:0.2:order=whw")
    (one,) = parse_passes("sparse_attention:0.2:order=wth")
    for model in ("vace", "ltx"):
        with pytest.raises(InvalidRequest, match="one order only; leave order out"):
            one.check(first_call(model).family, MACHINE)
    skyreels = first_call("skyreels")
    network = skyreels.load()
    with pytest.raises(UnsupportedPass, match="leave order out"):
        one.apply(network, skyreels.family)
    assert not any(block.attn1.processor.__class__ is WanSelfAttention for block in network.blocks)
