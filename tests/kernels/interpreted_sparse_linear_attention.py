"""The Triton kernels of sparse-linear attention against the reference, without a GPU.

`test_interpreter.py` runs these in a process for which the interpreter is chosen. It is right in float32, float16 and
int8, and wrong in bfloat16.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from homereel.kernels.sparse_linear_attention.blocks import num_kept_blocks
from homereel.kernels.sparse_linear_attention.reference import reference
from tests.kernels.slow import slow

# The largest relative error of a case. float32: sums in another order, ten times more in gradients. float16: 11 bits,
# rounded in probabilities and in the result. int8: 7 bits and a sign under one scale a block. fp8 e4m3: steps of 1/8 in
# q, k, v and p, 2.5% each if rounded to nearest as a GPU does; the interpreter cuts off, which doubles it.
TOLERANCES = {
    "float32": {
        "out": 1e-5,
        "sparse": 1e-5,
        "plain": 1e-5,
        "lse": 1e-5,
        "grad_q": 1e-4,
        "grad_k": 1e-4,
        "grad_v": 1e-4,
    },
    "float16": {
        "out": 1e-3,
        "sparse": 1e-3,
        "plain": 1e-3,
        "lse": 1e-3,
        "grad_q": 2e-3,
        "grad_k": 2e-3,
        "grad_v": 2e-3,
    },
    "int8": {"out": 1.5e-2},
    "fp8": {"out": 0.13},
}
CASES: dict[str, dict[str, Any]] = {
    "float32 ragged": {"kind": "float32", "shape": (1, 330, 1, 64), "ratio": 0.34, "blocks": (128, 64)},
    "float32 wide": {"kind": "float32", "shape": (2, 129, 2, 128), "ratio": 0.7, "blocks": (64, 64)},
    "float32 whole blocks": {"kind": "float32", "shape": (1, 256, 1, 64), "ratio": 0.5, "blocks": (64, 128)},
    "float16": {"kind": "float16", "shape": (1, 201, 2, 64), "ratio": 0.5, "blocks": (128, 64)},
    "int8": {"kind": "int8", "capability": 80, "shape": (1, 201, 2, 64), "ratio": 0.5, "blocks": (128, 64)},
    "int8 wide": {"kind": "int8", "capability": 80, "shape": (1, 129, 2, 128), "ratio": 1.0, "blocks": (64, 128)},
    "fp8": {"kind": "fp8", "capability": 100, "shape": (1, 201, 2, 64), "ratio": 0.5, "blocks": (128, 64)},
}
SLOW_CASES: dict[str, dict[str, Any]] = {
    "float32 ragged heads": {**CASES["float32 ragged"], "shape": (1, 330, 2, 64)},
    "float32 whole blocks of heads": {**CASES["float32 whole blocks"], "shape": (1, 256, 2, 64)},
}


@pytest.mark.parametrize("name", [*CASES, *slow(*((name,) for name in SLOW_CASES))])
def test_interpreted_kernels_agree_with_the_reference(name: str) -> None:
    case = (CASES | SLOW_CASES)[name]
    allowed, errors = TOLERANCES[case["kind"]], measure(case)
    assert set(errors) == set(allowed)
    assert {name: error for name, error in errors.items() if not error < allowed[name]} == {}


def measure(case: dict[str, Any]) -> dict[str, float]:
    """Relative errors of one case."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float32 if case["kind"] == "float32" else torch.float16
    (_, length, _, size), (block_q, block_k) = case["shape"], case["blocks"]
    q, k, v, upstream = (torch.randn(*case["shape"], generator=generator).to(dtype) for _ in range(4))
    k = k + torch.randn(size, generator=generator).to(dtype)
    v = torch.stack([v, v], dim=3)[:, :, :, 0]  # strided, as a slice of a fused projection is
    proj: dict[str, Any] = {
        "proj_weight": torch.randn(size, size, generator=generator) * size**-0.5,
        "proj_bias": 0.1 * torch.randn(size, generator=generator),
    }
    sizes: dict[str, Any] = {"block_q": block_q, "block_k": block_k}
    sizes["num_kept"] = num_kept_blocks(length, block_k=block_k, ratio=case["ratio"])
    wanted = reference(q.float(), k.float(), v.float(), **sizes, **proj)
    if case["kind"] in {"int8", "fp8"}:
        return {"out": relative(eight_bit(q, k, v, case["capability"], **sizes, **proj), wanted)}
    return {"out": 0.0} | full_precision(q, k, v, upstream, sizes=sizes, proj=proj, wanted=wanted)


def eight_bit(q: Tensor, k: Tensor, v: Tensor, capability: int, **rest: Any) -> Tensor:
    from homereel.kernels.sparse_linear_attention import triton

    with mock.patch.object(triton, "_capability", return_value=capability):
        return triton.forward_eight_bit(q, k, v, **rest)


def full_precision(
    q: Tensor, k: Tensor, v: Tensor, upstream: Tensor, *, sizes: dict[str, Any], proj: dict[str, Any], wanted: Tensor
) -> dict[str, float]:
    from homereel.kernels.sparse_linear_attention import cpu, triton

    out, sparse, lse, kept = triton.forward(q, k, v, **sizes, **proj, save=True)
    nothing: dict[str, Any] = {"proj_weight": None, "proj_bias": None}
    plain, *rest = triton.forward(q, k, v, **sizes, **nothing, save=False)
    assert [x.numel() for x in rest] == [0, 0, 0]

    blocks: dict[str, Any] = {name: sizes[name] for name in ("block_q", "block_k")}
    exact = [x.float().requires_grad_() for x in (q, k, v)]
    wanted_sparse = reference(exact[0], exact[1], exact[2], **sizes)
    _, wanted_lse = cpu.forward(q.float(), k.float(), v.float(), kept, **blocks)
    wanted_grads = torch.autograd.grad(wanted_sparse, exact, upstream.float())
    grads = triton.backward(upstream, q, k, v, kept, sparse_BLHD=sparse, lse_BHL=lse, **blocks)
    found = {"out": (out, wanted), "sparse": (sparse, wanted_sparse), "plain": (plain, wanted_sparse)}
    found |= {"lse": (lse, wanted_lse)}
    found |= {f"grad_{name}": (grads[index], wanted_grads[index]) for index, name in enumerate("qkv")}
    return {name: relative(*pair) for name, pair in found.items()}


def relative(got: Tensor, wanted: Tensor) -> float:
    return float(((got.float() - wanted).norm() / wanted.norm()).detach())
