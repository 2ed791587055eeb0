"""Fused norms in plain PyTorch against what diffusers computes in its own attention and blocks.

Tolerance: float32 sums in another order cost a few units in the last of 24 bits; 1e-5 of numbers around 1 leaves a
margin, and fails for a wrong pair, head, token or epsilon. In bf16 diffusers rounds between the steps, we once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.normalization import FP32LayerNorm, RMSNorm
from diffusers.models.transformers import transformer_wan
from diffusers.models.transformers.transformer_ltx2 import apply_interleaved_rotary_emb, apply_split_rotary_emb
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.kernels import fused_norm
from homereel.kernels.fused_norm import (
    cpu,
    layer_norm,
    norm_modulate,
    norm_modulate_quantize,
    reference,
    rms_norm_rope,
    rotary_of_channels,
    rotary_of_pairs,
)
from homereel.kernels.int8_linear import quantize_activation

HEADS, HEAD_SIZE = 3, 16
CHANNELS = HEADS * HEAD_SIZE


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def check_close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def wan_tables() -> tuple[Tensor, Tensor]:
    """Of 2 x 2 x 3 tokens."""
    rope = transformer_wan.WanRotaryPosEmbed(HEAD_SIZE, (1, 2, 2), 64)
    cos, sin = rope(torch.empty(1, 4, 2, 4, 6))
    return cos, sin


def wan_queries_and_keys(
    x: Tensor, weight: Tensor, *, eps: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What Wan's processor hands to attention, and what its projections gave: query, key, of each."""
    processor = transformer_wan.WanAttnProcessor()
    attention = transformer_wan.WanAttention(CHANNELS, HEADS, HEAD_SIZE, eps=eps, processor=processor)
    attention.requires_grad_(False).to(x.dtype)
    attention.norm_q.weight.copy_(weight)
    attention.norm_k.weight.copy_(1 - weight)
    seen: list[Tensor] = []

    def keep(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        seen.extend((query, key))
        return value

    monkeypatch.setattr(transformer_wan, "dispatch_attention_fn", keep)
    attention(x, rotary_emb=wan_tables())
    return seen[0], seen[1], attention.to_q(x), attention.to_k(x)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)], ids=str)
def test_queries_and_keys_are_those_of_wan(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, eps = random(2, 12, CHANNELS).to(dtype), random(CHANNELS).to(dtype), 1e-2
    query, key, q, k = wan_queries_and_keys(x, weight, eps=eps, monkeypatch=monkeypatch)
    rotary = rotary_of_channels(*wan_tables())
    for wanted, given, own in ((query, q, weight), (key, k, 1 - weight)):
        got = rms_norm_rope(given, own, num_heads=HEADS, eps=eps, rotary=rotary)
        assert got.dtype == dtype
        # bf16: two roundings more, each of 2**-9, of numbers up to 4
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def test_without_positions_it_is_the_norm_of_cross_attention() -> None:
    norm = nn.RMSNorm(CHANNELS, eps=1e-6).requires_grad_(False)
    norm.weight.copy_(random(CHANNELS))
    x = random(2, 5, CHANNELS)
    got = rms_norm_rope(x, norm.weight, num_heads=HEADS, eps=1e-6)
    check_close(got.flatten(2), norm(x))


def test_each_head_is_normed_alone_as_in_hunyuan() -> None:
    norm = RMSNorm(HEAD_SIZE, eps=1e-6).requires_grad_(False)
    norm.weight.copy_(random(HEAD_SIZE))
    x = random(2, 7, CHANNELS)
    cos, sin = get_1d_rotary_pos_embed(HEAD_SIZE, 7, use_real=True)
    wanted = apply_rotary_emb(norm(x.unflatten(2, (HEADS, -1))), (cos, sin), sequence_dim=1)
    rotary = rotary_of_channels(cos[None, :, None], sin[None, :, None])
    got = rms_norm_rope(x, norm.weight, num_heads=HEADS, eps=1e-6, rotary=rotary)
    check_close(got, wanted)


def test_every_head_has_its_own_angles_as_in_ltx() -> None:
    norm = RMSNorm(CHANNELS, eps=1e-5).requires_grad_(False)
    norm.weight.copy_(random(CHANNELS))
    x, angles = random(2, 7, CHANNELS), random(2, 7, CHANNELS // 2)
    doubled = angles.repeat_interleave(2, -1)
    wanted = apply_interleaved_rotary_emb(norm(x), (doubled.cos(), doubled.sin())).unflatten(2, (HEADS, -1))
    rotary = rotary_of_channels(*(table.unflatten(2, (HEADS, -1)) for table in (doubled.cos(), doubled.sin())))
    check_close(rms_norm_rope(x, norm.weight, num_heads=HEADS, eps=1e-5, rotary=rotary), wanted)

    by_head = random(2, HEADS, 7, HEAD_SIZE // 2)
    wanted = apply_split_rotary_emb(norm(x), (by_head.cos(), by_head.sin())).unflatten(2, (HEADS, -1))
    rotary = rotary_of_pairs(by_head.cos(), by_head.sin())
    check_close(rms_norm_rope(x, norm.weight, num_heads=HEADS, eps=1e-5, rotary=rotary), wanted)


def test_halves_of_a_table_with_a_number_a_channel() -> None:
    x, (cos, sin) = (
        random(1, 5, CHANNELS),
        get_1d_rotary_pos_embed(HEAD_SIZE, 5, use_real=True, repeat_interleave_real=False),
    )
    normed = rms_norm_rope(x, torch.ones(CHANNELS), num_heads=HEADS, eps=0.0)
    wanted = apply_rotary_emb(normed, (cos, sin), use_real_unbind_dim=-2, sequence_dim=1)
    rotary = rotary_of_channels(cos[None, :, None], sin[None, :, None], layout="halves")
    got = rms_norm_rope(x, torch.ones(CHANNELS), num_heads=HEADS, eps=0.0, rotary=rotary)
    check_close(got, wanted)


@pytest.mark.parametrize("case", ["turned", "turned heads", "alone", "halves"])
def test_short_numbers_are_rounded_once(case: str) -> None:
    """bfloat16 holds 8 bits: what is reckoned in float32 and rounded once is half of 2**-7 off at most."""
    x = random(2, 12, CHANNELS).bfloat16()
    weight = random(HEAD_SIZE if case == "turned heads" else CHANNELS).bfloat16()
    cos, sin = wan_tables()
    rotary = (
        None
        if case == "alone"
        else rotary_of_channels(cos, sin, layout="halves" if case == "halves" else "interleaved")
    )
    got = rms_norm_rope(x, weight, num_heads=HEADS, eps=1e-6, rotary=rotary)
    wanted = rms_norm_rope(x.float(), weight.float(), num_heads=HEADS, eps=1e-6, rotary=rotary)
    torch.testing.assert_close(got.float(), wanted, rtol=1.01 * 2**-8, atol=1e-6)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("rows", [1, 12])
def test_short_numbers_are_modulated_in_float32(rows: int, centre: bool) -> None:
    x, scale, shift = random(2, 12, CHANNELS).bfloat16(), random(1, rows, CHANNELS), random(1, rows, CHANNELS, seed=1)
    got = norm_modulate(x, scale=scale, shift=shift, eps=1e-6, centre=centre)
    wanted = norm_modulate(x.double().float(), scale=scale, shift=shift, eps=1e-6, centre=centre)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, rtol=1.01 * 2**-8, atol=1e-6)


@pytest.mark.parametrize("by_token", [False, True], ids=["Wan 2.1", "TI2V"])
def test_modulation_is_that_of_wans_block(by_token: bool) -> None:
    block = transformer_wan.WanTransformerBlock(CHANNELS, 32, HEADS, cross_attn_norm=True).requires_grad_(False)
    x, text = random(2, 12, CHANNELS) + 3, random(2, 4, CHANNELS)
    temb = random(*((2, 12, 6, CHANNELS) if by_token else (2, 6, CHANNELS)))
    seen: list[Tensor] = []
    for part in (block.attn1, block.ffn):
        part.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    before_ffn: list[Tensor] = []
    block.norm3.register_forward_pre_hook(lambda _, given: before_ffn.append(given[0]))
    block(x, text, temb, wan_tables())
    parts = (block.scale_shift_table + temb).unbind(-2)
    parts = parts if by_token else tuple(part[:, None] for part in parts)
    got = norm_modulate(x, scale=parts[1], shift=parts[0], eps=1e-6)
    check_close(got, seen[0])
    got = norm_modulate(before_ffn[0], scale=parts[4], shift=parts[3], eps=1e-6)
    check_close(got, seen[1])


def test_norms_with_weights_and_without_a_mean() -> None:
    norm, x = FP32LayerNorm(CHANNELS, 1e-6).requires_grad_(False), random(2, 5, CHANNELS) + 3
    norm.weight.copy_(random(CHANNELS)), norm.bias.copy_(random(CHANNELS, seed=1))
    check_close(layer_norm(x, weight=norm.weight, bias=norm.bias, eps=1e-6), norm(x))
    plain = layer_norm(x.half(), weight=None, bias=None, eps=1e-6)
    torch.testing.assert_close(
        plain.float(), FP32LayerNorm(CHANNELS, 1e-6, False)(x.half().float()), rtol=2**-10, atol=0
    )
    scale, shift = random(2, 1, CHANNELS), random(1, 5, CHANNELS)
    wanted = RMSNorm(CHANNELS, eps=1e-5, elementwise_affine=False)(x) * (1 + scale) + shift
    check_close(norm_modulate(x, scale=scale, shift=shift, eps=1e-5, centre=False), wanted)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_a_norm_quantises_what_it_would_have_given(scheme: Any) -> None:
    x, scale, shift = random(2, 5, CHANNELS), random(2, 1, CHANNELS), random(1, 1, CHANNELS)
    wanted = quantize_activation(norm_modulate(x, scale=scale, shift=shift, eps=1e-6), scheme=scheme)
    got = norm_modulate_quantize(x, scale=scale, shift=shift, eps=1e-6, scheme=scheme)
    assert torch.equal(got.values_MK.float(), wanted.values_MK.float())
    assert torch.equal(got.scale, wanted.scale)
    assert got[2:] == wanted[2:]


def test_nan_stays_in_its_token() -> None:
    x = random(1, 3, CHANNELS)
    x[0, 1, 5] = torch.nan
    for got in (
        rms_norm_rope(x, torch.ones(CHANNELS), num_heads=HEADS, eps=1e-6).flatten(2),
        norm_modulate(x, scale=None, shift=None, eps=1e-6),
    ):
        assert got[0, 1].isnan().all()
        assert got[0, [0, 2]].isfinite().all()
    assert norm_modulate_quantize(x, scale=None, shift=None, eps=1e-6).scale.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("per_head", [True, False])
def test_the_way_of_a_cpu_equals_the_reference(per_head: bool, interleaved: bool) -> None:
    x, angles = random(2, 5, CHANNELS), random(1, 5, 1, HEAD_SIZE // 2)
    weight = random(HEAD_SIZE if per_head else CHANNELS)
    for tables in ((angles.cos(), angles.sin()), (None, None)):
        ways = (
            part.rms_norm_rope(x, weight, *tables, num_heads=HEADS, eps=1e-6, interleaved=interleaved)
            for part in (cpu, reference)
        )
        check_close(*ways)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("add_one", [True, False])
@pytest.mark.parametrize("rows", [(1, 1), (2, 1), (1, 5), (2, 5)])
def test_modulation_on_a_cpu_equals_the_reference(rows: tuple[int, int], add_one: bool, centre: bool) -> None:
    """Rows for all, for a clip, for a token; each with and without scale and shift."""
    x, gain, offset = random(2, 5, CHANNELS) + 1, random(*rows, CHANNELS), random(*rows, CHANNELS, seed=1)
    before = x.clone()
    for given in ((gain, offset), (gain, None), (None, offset), (None, None)):
        ways = (part.norm_modulate(x, *given, eps=1e-6, add_one=add_one, centre=centre) for part in (cpu, reference))
        check_close(*ways)
    assert torch.equal(x, before)


def test_wrong_input_is_refused_with_what_is_possible() -> None:
    x, weight = random(1, 3, CHANNELS), torch.ones(CHANNELS)
    with pytest.raises(UnsupportedPass, match="give float32, bfloat16 or float16"):
        norm_modulate(x.double(), scale=None, shift=None, eps=1e-6)
    with pytest.raises(UnsupportedPass, match="choose int8 or fp8"):
        norm_modulate_quantize(x, scale=None, shift=None, eps=1e-6, scheme="int8_block")
    with pytest.raises(AssertionError, match=r"weight \(5,\)"):
        rms_norm_rope(x, weight[:5], num_heads=HEADS, eps=1e-6)
    with pytest.raises(AssertionError, match=r"\(1, 12, 1, 8\) does not fit \(1, 3, 3, 8\)"):
        rms_norm_rope(x, weight, num_heads=HEADS, eps=1e-6, rotary=rotary_of_channels(*wan_tables()))
    assert "NVIDIA GPU" in str(fused_norm.support(device=torch.device("cpu")))
    assert "at most 16384" in str(fused_norm.support(device=torch.device("cpu"), num_channels=20000))


def test_the_operators_say_what_shapes_they_give() -> None:
    checks = ("test_schema", "test_faketensor")  # what else there is concerns gradients, which these have not
    x, rotary = random(2, 12, CHANNELS), rotary_of_channels(*wan_tables())
    given = (x, torch.ones(CHANNELS), rotary.cos_BLHP, rotary.sin_BLHP, HEADS, 1e-6, True)
    torch.library.opcheck(torch.ops.homereel.rms_norm_rope.default, given, test_utils=checks)
    aside = random(CHANNELS, 12, 2).transpose(0, 2)  # numbers of a token do not lie side by side
    for apart in ((aside, torch.ones(CHANNELS), None, None, HEADS, 1e-6, True), (aside, *given[1:])):
        torch.library.opcheck(torch.ops.homereel.rms_norm_rope.default, apart, test_utils=checks)
    torch.library.opcheck(
        torch.ops.homereel.norm_modulate.default, (aside, None, x, 1e-6, True, True), test_utils=checks
    )
    torch.library.opcheck(torch.ops.homereel.norm_modulate.default, (x, None, x, 1e-6, True, True), test_utils=checks)
    given_too = (x, x, None, 1e-6, True, False, "int8")
    torch.library.opcheck(fused_norm._norm_modulate_quantize, given_too, test_utils=checks)


def block_start(rotary: fused_norm.Rotary) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    weight = random(CHANNELS)

    def run(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed = norm_modulate(x, scale=table, shift=table, eps=1e-6)
        xq = norm_modulate_quantize(x, scale=table, shift=None, eps=1e-6)
        return normed, xq.values_MK, rms_norm_rope(normed, weight, num_heads=HEADS, eps=1e-6, rotary=rotary)

    return run


def test_it_compiles_as_one_graph() -> None:
    run = block_start(rotary_of_channels(*wan_tables()))
    x, table = random(2, 12, CHANNELS), random(2, 1, CHANNELS)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    for got, wanted in zip(compiled(x, table), run(x, table), strict=True):
        assert torch.equal(got, wanted)
