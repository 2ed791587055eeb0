"""The Triton kernels on a GPU that is there, through the operator, against the reference in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from homereel.kernels.sparse_linear_attention import sparse_linear_attention
from homereel.kernels.sparse_linear_attention.reference import reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def draw(length: int, *, size: int, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k, v on the GPU, and a tuned projection."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, length, 3, size, generator=generator).to("cuda", dtype) for _ in range(3)]
    weight = (torch.randn(size, size, generator=generator) * size**-0.5).cuda()
    return inputs, {"proj_weight": weight, "proj_bias": torch.randn(size, generator=generator).cuda()}


def relative(got: Tensor, wanted: Tensor) -> float:
    return float(((got.float() - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("length", "size", "blocks"), [(1000, 128, (128, 64)), (517, 64, (64, 64)), (63, 128, (64, 128))]
)
def test_forward_and_backward(dtype: torch.dtype, length: int, size: int, blocks: tuple[int, int]) -> None:
    """Probabilities, the linear state and the result are each rounded once to 8 or 11 bits."""
    inputs, proj = draw(length, size=size, dtype=dtype)
    leaves = [x.requires_grad_() for x in inputs]
    exact = [x.detach().float().requires_grad_() for x in inputs]
    num_kept, tolerance = min(3, -(-length // blocks[1])), 4 * torch.finfo(dtype).eps
    sizes: dict[str, Any] = {"block_q": blocks[0], "block_k": blocks[1]}
    out = sparse_linear_attention(leaves[0], leaves[1], leaves[2], budget=num_kept, **sizes, **proj)
    wanted = reference(exact[0], exact[1], exact[2], num_kept=num_kept, **sizes, **proj)
    assert relative(out, wanted) < tolerance
    upstream = torch.randn_like(wanted)
    grads = torch.autograd.grad(out, leaves, upstream.to(dtype))
    for got, gradient in zip(grads, torch.autograd.grad(wanted, exact, upstream), strict=True):
        assert relative(got, gradient) < 2 * tolerance


@pytest.mark.parametrize("size", [64, 128])
def test_eight_bit_forward(size: int) -> None:
    """Scores from 7 bits and a sign, probabilities and values from fp8: some percent (more with fp8 scores)."""
    (q, k, v), proj = draw(1000, size=size, dtype=torch.bfloat16)
    wanted = reference(q.float(), k.float(), v.float(), num_kept=3, **proj)
    with torch.no_grad():
        got = sparse_linear_attention(q, k, v, budget=3, eight_bit=True, **proj)
    assert relative(got, wanted) < 0.08
