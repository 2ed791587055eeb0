"""The Triton kernels of fused norms on a GPU: what the interpreter cannot show, bf16 and Wan's sizes."""

from __future__ import annotations

import pytest
import torch

from homereel.kernels.fused_norm import norm_modulate, norm_modulate_quantize, reference, rms_norm_rope
from homereel.kernels.fused_norm.rotary import Layout, Rotary
from homereel.kernels.int8_linear import dequantize_weight

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
TYPES = [(torch.float32, 1e-5), (torch.bfloat16, 2**-7), (torch.float16, 2**-10)]  # one rounding of the result


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES, ids=str)
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("heads", [12, 40])
@pytest.mark.parametrize("per_head", [False, True])
def test_rms_norm_and_rope(heads: int, per_head: bool, layout: Layout, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1001, heads * 128, device="cuda").to(dtype)
    weight = torch.randn(128 if per_head else heads * 128, device="cuda").to(dtype)
    angles = torch.rand(1, 1001, 1, 64, device="cuda") * 6
    got = rms_norm_rope(x, weight, num_heads=heads, eps=1e-6, rotary=Rotary(angles.cos(), angles.sin(), layout))
    given = (x, weight, angles.cos(), angles.sin())
    wanted = reference.rms_norm_rope(*given, num_heads=heads, eps=1e-6, interleaved=layout == "interleaved")
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES, ids=str)
@pytest.mark.parametrize("channels", [130, 1536, 5120])
def test_norm_modulation_and_8_bits(channels: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 1001, channels, device="cuda") + 2).to(dtype)
    scale, shift = torch.randn(2, 6, channels, device="cuda")[:, :2].split(1, 1)
    exact = reference.norm_modulate(x, scale, shift, eps=1e-6, add_one=True, centre=True)
    got = norm_modulate(x, scale=scale, shift=shift, eps=1e-6)
    torch.testing.assert_close(got, exact.to(dtype), rtol=tolerance, atol=tolerance)
    quantised = norm_modulate_quantize(x, scale=scale, shift=shift, eps=1e-6)
    error = (dequantize_weight(quantised.values_MK, quantised.scale) - exact.flatten(0, 1)).abs()
    assert bool((error <= quantised.scale[:, None] * 0.501).all())  # half a step, and what sums in float32 cost
