"""The Triton kernels of 8-bit linear layers on a GPU: what the interpreter cannot show, bf16 and Wan's sizes."""

from __future__ import annotations

import pytest
import torch

from homereel.kernels.int8_linear import SCHEMES, Scheme, quantize_weight, quantized_linear, reference, support

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "shape",
    [(1, 127, 130), (5, 1, 3), (257, 200, 130), (512, 1536, 1536), (4096, 5120, 13824), (4096, 5136, 5120)],
    ids=str,
)
@pytest.mark.parametrize("gelu", [False, True])
def test_the_kernel_gives_what_the_reference_gives(scheme: Scheme, shape: tuple[int, int, int], gelu: bool) -> None:
    device = torch.device("cuda")
    reason = support(scheme, device=device)
    if reason is not None:
        pytest.skip(reason)
    num_tokens, num_inputs, num_outputs = shape
    torch.manual_seed(0)
    x_MK = torch.randn(num_tokens, num_inputs, device=device, dtype=torch.bfloat16)
    weight_NK = torch.randn(num_outputs, num_inputs, device=device, dtype=torch.bfloat16) / num_inputs**0.5
    bias_N = torch.randn(num_outputs, device=device, dtype=torch.bfloat16)
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    got = quantized_linear(x_MK, values, scale, bias=bias_N, gelu=gelu, dtype=torch.float32)
    own = (*reference.quantize(x_MK, scheme=scheme), values, scale)
    wanted = reference.matmul(*own, bias_N=bias_N, gelu=gelu, dtype=torch.float32)
    # int8: exact sums, then float32 with fused multiply-adds and an approximate exp. fp8: sums of Hopper's matrix
    # units keep about 14 bits of each product, and the reference's own product may run in TF32.
    tolerance = 5e-3 if scheme == "fp8" else 1e-5
    assert float((got - wanted).norm() / wanted.norm()) < tolerance
