"""The operator on a CPU: against its reference, under autograd, under torch.compile; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.core.errors import UnsupportedPass
from homereel.kernels.sparse_linear_attention import sparse_linear_attention, support
from homereel.kernels.sparse_linear_attention.blocks import block_map, num_kept_blocks, pool
from homereel.kernels.sparse_linear_attention.reference import reference

# float32 carries 6e-8; sums in another order differ by some of these, gradients by ten times as many
SAME_SUM, SAME_GRADIENT = 1e-5, 1e-4


def draw(length: int, *, size: int = 64, heads: int = 3, batch: int = 2, seed: int = 0) -> list[Tensor]:
    """q, k, v (B, L, H, D), keys with a large common offset as real ones have, then weight and bias."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, length, heads, size, generator=generator) for _ in range(3))
    weight = torch.randn(size, size, generator=generator) * size**-0.5
    return [q, k + 2 * torch.randn(size, generator=generator), v, weight, torch.randn(size, generator=generator)]


def relative(got: Tensor, wanted: Tensor) -> float:
    return float(((got - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize(
    ("shape", "ratio", "blocks"),
    [
        ((3, 517, 3, 64), 0.3, (128, 64)),
        ((1, 517, 1, 128), 0.5, (64, 128)),
        ((3, 200, 5, 128), 0.01, (64, 64)),
        ((1, 63, 1, 64), 0.1, (128, 64)),
        ((1, 1024, 1, 64), 0.1, (128, 64)),
    ],
)
@pytest.mark.parametrize("projected", [True, False])
def test_agrees_with_the_reference(
    shape: tuple[int, int, int, int], ratio: float, blocks: tuple[int, int], projected: bool
) -> None:
    batch, length, heads, size = shape
    q, k, v, weight, bias = draw(length, size=size, heads=heads, batch=batch)
    proj: dict[str, Any] = {"proj_weight": weight, "proj_bias": bias} if projected else {}
    num_kept = num_kept_blocks(length, block_k=blocks[1], ratio=ratio)
    wanted = reference(q, k, v, num_kept=num_kept, block_q=blocks[0], block_k=blocks[1], **proj)
    got = sparse_linear_attention(q, k, v, ratio=ratio, block_q=blocks[0], block_k=blocks[1], **proj)
    assert got.is_contiguous()
    assert relative(got, wanted) < SAME_SUM


def test_the_reference_with_all_blocks_is_dense_attention() -> None:
    q, k, v, *_ = draw(333)
    by_head = [x.transpose(1, 2) for x in (q, k, v)]
    dense = F.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2]).transpose(1, 2)
    assert relative(reference(q, k, v, num_kept=6), dense) < SAME_SUM
    assert relative(sparse_linear_attention(q, k, v, ratio=1.0), dense) < SAME_SUM
    assert relative(sparse_linear_attention(q, k, v, ratio=0.5), dense) > 0.1


def test_the_linear_branch_is_the_papers_formula() -> None:
    """One token a time, as the paper writes it: φ(q)ᵀ Σ φ(k) vᵀ / (ε + φ(q)ᵀ Σ φ(k)), then the projection."""
    q, k, v, weight, bias = draw(40, heads=1, batch=1)
    phi_k, values = k[0, :, 0].softmax(-1), v[0, :, 0]
    rows = []
    for phi_q in q[0, :, 0].softmax(-1):
        shares = phi_k @ phi_q
        rows.append(weight @ ((shares @ values) / (1e-5 + shares.sum())) + bias)
    added = reference(q, k, v, num_kept=1, proj_weight=weight, proj_bias=bias) - reference(q, k, v, num_kept=1)
    assert relative(added[0, :, 0], torch.stack(rows)) < SAME_SUM


def test_kept_blocks_are_those_with_the_best_mean_scores() -> None:
    q, k, *_ = draw(300, heads=1, batch=1)
    kept = block_map(q, k, num_kept=2, block_q=128, block_k=64)[0, 0]
    for block, chosen in enumerate(kept.tolist()):
        mean = q[0, block * 128 : (block + 1) * 128, 0].mean(0)
        scores = torch.stack([part.mean(0) @ mean for part in k[0, :, 0].split(64)])
        assert chosen == sorted(scores.topk(2).indices.tolist())


def test_a_ragged_last_block_is_averaged_by_its_true_count() -> None:
    x = draw(70)[0]
    torch.testing.assert_close(pool(x, block=64)[:, :, 1], x[:, 64:].mean(1))


@pytest.mark.parametrize(
    ("length", "ratio", "budget", "kept"),
    [
        (64, 0.1, None, 1),
        (640, 0.1, None, 1),
        (1000, 0.15, None, 2),
        (640, 0.9, 3, 3),
        (640, 0.1, 99, 10),
        (640, 1, 0, 1),
    ],
)
def test_at_least_one_block_is_kept_and_never_more_than_there_are(
    length: int, ratio: float, budget: int | None, kept: int
) -> None:
    assert num_kept_blocks(length, block_k=64, ratio=ratio, budget=budget) == kept


def test_a_zero_projection_adds_its_bias_alone() -> None:
    q, k, v, weight, bias = draw(130)
    plain = sparse_linear_attention(q, k, v)
    assert torch.equal(sparse_linear_attention(q, k, v, proj_weight=torch.zeros_like(weight)), plain)
    biased = sparse_linear_attention(q, k, v, proj_weight=torch.zeros_like(weight), proj_bias=bias)
    assert torch.equal(biased, plain + bias)


@pytest.mark.parametrize(
    ("length", "size", "blocks"), [(333, 64, (128, 64)), (190, 128, (64, 64)), (256, 64, (64, 128))]
)
@pytest.mark.parametrize("projection", ["none", "zero", "tuned"])
def test_gradients_agree_with_autograd_of_the_reference(
    length: int, size: int, blocks: tuple[int, int], projection: str
) -> None:
    """A zero projection gets a gradient too, or it could never be trained away from zero."""
    q, k, v, weight, bias = draw(length, size=size)
    weight = weight * (projection == "tuned")
    inputs = [x.requires_grad_() for x in ((q, k, v) if projection == "none" else (q, k, v, weight, bias))]
    proj: dict[str, Any] = {} if projection == "none" else {"proj_weight": weight, "proj_bias": bias}
    upstream = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))

    def gradients(attention: Callable[..., Tensor], **kept: int) -> tuple[Tensor, ...]:
        out = attention(q, k, v, block_q=blocks[0], block_k=blocks[1], **kept, **proj)
        return torch.autograd.grad(out, inputs, upstream)

    wanted = gradients(reference, num_kept=2)
    for index, got in enumerate(gradients(sparse_linear_attention, budget=2)):
        assert relative(got, wanted[index]) < SAME_GRADIENT, index


def test_the_fill_of_a_ragged_block_weighs_nothing_where_all_scores_are_far_below_zero() -> None:
    """Scores near -800: zeros that fill up the last block would outweigh every real key, without bound."""
    q, k, v, *_ = draw(100, heads=1, batch=1)
    leaves = [x.requires_grad_() for x in (q + 10, k - 10, v)]
    wanted = torch.autograd.grad(reference(leaves[0], leaves[1], leaves[2], num_kept=2).sum(), leaves)
    got = torch.autograd.grad(sparse_linear_attention(leaves[0], leaves[1], leaves[2], budget=2).sum(), leaves)
    # scores of -800 carry 6e-5 of rounding each, and dv sums plain probabilities
    assert torch.isfinite(torch.cat([x.flatten() for x in got])).all()
    assert relative(got[2], wanted[2]) < 1e-3


def test_gradients_agree_with_finite_differences() -> None:
    """Small and in float64; the blocks chosen do not change within the step of 1e-6."""
    q, k, v, weight, bias = (x.double().requires_grad_() for x in draw(70, size=4, heads=1, batch=1))

    def attend(*inputs: Tensor) -> Tensor:
        q, k, v, weight, bias = inputs
        return sparse_linear_attention(q, k, v, budget=1, proj_weight=weight, proj_bias=bias)

    assert torch.autograd.gradcheck(attend, (q, k, v, weight, bias), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Inputs rounded to 8 or 11 bits; the result differs from float32 by a few roundings of its own."""
    q, k, v, weight, bias = draw(200)
    leaves = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    exact = [x.detach().float().requires_grad_() for x in leaves]
    got = sparse_linear_attention(leaves[0], leaves[1], leaves[2], budget=2, proj_weight=weight, proj_bias=bias)
    wanted = reference(exact[0], exact[1], exact[2], num_kept=2, proj_weight=weight, proj_bias=bias)
    assert got.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    assert relative(got.float(), wanted) < tolerance
    grads = torch.autograd.grad(got.sum(), leaves)
    for grad, gradient in zip(grads, torch.autograd.grad(wanted.sum(), exact), strict=True):
        assert relative(grad.float(), gradient) < tolerance


@pytest.mark.parametrize("dynamic", [True, False])
def test_compiles_into_one_graph_with_its_gradients(dynamic: bool) -> None:
    q, k, v, weight, bias = (x.requires_grad_() for x in draw(200, batch=1))

    def block(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return 2 * sparse_linear_attention(q * 1.5, k, v, ratio=0.4, proj_weight=weight, proj_bias=bias)

    torch.compiler.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for length in (200, 136):
        inputs = [x[:, :length].detach().requires_grad_() for x in (q, k, v)]
        wanted, got = block(*inputs), compiled(*inputs)
        torch.testing.assert_close(got, wanted)
        for one, other in zip(*(torch.autograd.grad(x.sum(), [*inputs, weight]) for x in (got, wanted)), strict=True):
            torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), block(*inputs))


def test_the_operator_keeps_the_contract_of_torch_library() -> None:
    """Schema, shapes told beforehand, and autograd registration, as torch checks them itself."""
    q, k, v, weight, bias = (x.requires_grad_() for x in draw(130, batch=1))
    operator = torch.ops.homereel.sparse_linear_attention.default
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator, (q, k, v, weight, bias, 1, 128, 64, False, True), test_utils=tests)
    plain = [x.detach() for x in (q, k, v)]
    torch.library.opcheck(operator, (*plain, None, None, 2, 64, 64, False, False), test_utils=tests)


@pytest.mark.parametrize(
    ("device", "head_dim", "dtype", "said"),
    [
        ((7, 5), 128, torch.float16, "compute capability 8.0 (RTX 30, A100) or later; this one has 7.5"),
        ((9, 0), 96, torch.bfloat16, "heads of 64 and 128, not 96"),
        ((9, 0), 128, torch.float32, "bfloat16, float16, not float32"),
        ("mps", 128, torch.float16, 'no kernel for "mps"'),
        ("cpu", 128, torch.int8, "not int8"),
    ],
)
def test_support_says_why_not_and_what_else(
    device: tuple[int, int] | str, head_dim: int, dtype: torch.dtype, said: str
) -> None:
    assert said in (support(device, head_dim, dtype) or "")


def test_support_of_what_is_there() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    assert support("cpu", 40, torch.float32) is None
    assert support((8, 0), 64, torch.float16) is None
    assert support((12, 0), 128, torch.bfloat16, eight_bit=True) is None


def test_eight_bits_are_refused_where_they_cannot_be() -> None:
    q, k, v, *_ = draw(64)
    with pytest.raises(UnsupportedPass, match="NVIDIA GPU"):
        sparse_linear_attention(q, k, v, eight_bit=True)
    with pytest.raises(UnsupportedPass, match="no gradients"):
        sparse_linear_attention(q.requires_grad_(), k, v, eight_bit=True)
