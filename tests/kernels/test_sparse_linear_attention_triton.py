"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled for five generations of GPUs.

The interpreter is chosen when Triton is imported, so it has a process of its own: this file, run as a program, prints
how far each case is from the reference. It is right in float32, float16 and int8, and wrong in bfloat16.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from homereel.kernels.sparse_linear_attention.blocks import num_kept_blocks
from homereel.kernels.sparse_linear_attention.reference import reference
from tests.kernels.compile_for import CAPABILITIES, NEEDS_TRITON, SHARED_LIMIT_BYTES, Compiled, compile_for

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
    "float32 ragged": {"kind": "float32", "shape": (1, 330, 2, 64), "ratio": 0.34, "blocks": (128, 64)},
    "float32 wide": {"kind": "float32", "shape": (2, 129, 2, 128), "ratio": 0.7, "blocks": (64, 64)},
    "float32 whole blocks": {"kind": "float32", "shape": (1, 256, 2, 64), "ratio": 0.5, "blocks": (64, 128)},
    "float16": {"kind": "float16", "shape": (1, 201, 2, 64), "ratio": 0.5, "blocks": (128, 64)},
    "int8": {"kind": "int8", "capability": 80, "shape": (1, 201, 2, 64), "ratio": 0.5, "blocks": (128, 64)},
    "int8 wide": {"kind": "int8", "capability": 80, "shape": (1, 129, 2, 128), "ratio": 1.0, "blocks": (64, 128)},
    "fp8": {"kind": "fp8", "capability": 100, "shape": (1, 201, 2, 64), "ratio": 0.5, "blocks": (128, 64)},
}


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, float]]:
    """Every case's relative errors, from one process with the interpreter."""
    pytest.importorskip("triton", reason=NEEDS_TRITON)
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", CASES)
def test_interpreted_kernels_agree_with_the_reference(errors: dict[str, dict[str, float]], case: str) -> None:
    allowed = TOLERANCES[CASES[case]["kind"]]
    assert set(errors[case]) == set(allowed)
    assert {name: error for name, error in errors[case].items() if not error < allowed[name]} == {}


def measure(case: dict[str, Any]) -> dict[str, float]:
    """Relative errors of one case. Runs in the process with the interpreter."""
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
    _, wanted_lse = cpu.forward(q.float(), k.float(), v.float(), kept, **blocks, save=True)
    wanted_grads = torch.autograd.grad(wanted_sparse, exact, upstream.float())
    grads = triton.backward(upstream, q, k, v, kept, sparse_BLHD=sparse, lse_BHL=lse, **blocks)
    found = {"out": (out, wanted), "sparse": (sparse, wanted_sparse), "plain": (plain, wanted_sparse)}
    found |= {"lse": (lse, wanted_lse)}
    found |= {f"grad_{name}": (grads[index], wanted_grads[index]) for index, name in enumerate("qkv")}
    return {name: relative(*pair) for name, pair in found.items()}


def relative(got: Tensor, wanted: Tensor) -> float:
    return float(((got.float() - wanted).norm() / wanted.norm()).detach())


# --- compiled for GPUs that are not here ------------------------------------------------------------------------


def pointer_types(dtype: str) -> dict[str, str]:
    """Types of pointers that are not of the model's own dtype."""
    integers = dict.fromkeys(("kept_ptr", "queries_ptr", "starts_ptr"), "*i32")
    names = ("lse", "sum", "bias", "delta", "grad_q", "grad_k", "grad_v", "mean", "q_scale", "k_scale", "v_scale")
    return {"*": f"*{dtype}", **integers, **{f"{name}_ptr": "*fp32" for name in names}}


def compiled(kernel: Any, layout: Any, *, capability: int, types: dict[str, str], **constants: Any) -> Compiled:
    run_time = [name for name in kernel.arg_names if name not in constants]
    signature = {
        name: types.get(name, types["*"]) if name.endswith("_ptr") else "fp32" if name == "scale" else "i32"
        for name in run_time
    }
    strides = [name for name in run_time if "stride" in name]
    built = compile_for(
        kernel, capability=capability, signature=signature, constants=constants, divisible=strides, **layout.options()
    )
    assert built.stack_bytes == 0, f"{kernel.__name__} spills {built.stack_bytes} bytes"
    assert built.shared_bytes <= SHARED_LIMIT_BYTES[capability]
    return built


def matrix_instructions(capability: int) -> str:
    return {90: "wgmma.mma_async", 100: "tcgen05.mma"}.get(capability, "mma.sync")


@pytest.mark.parametrize(
    ("capability", "size", "block_q"), [*((capability, 128, 128) for capability in CAPABILITIES), (89, 64, 64)]
)
def test_kernels_fit_every_gpu(capability: int, size: int, block_q: int) -> None:
    """Shared memory within the limit, no spills, loads that run ahead, and that generation's matrix instruction."""
    pytest.importorskip("triton", reason=NEEDS_TRITON)
    from homereel.kernels.sparse_linear_attention import triton_backward, triton_forward, triton_pool
    from homereel.kernels.sparse_linear_attention.triton import STATE_BLOCK, tune

    blocks: dict[str, Any] = {"BLOCK_Q": block_q, "BLOCK_K": 64, "HEAD_SIZE": size}
    where: dict[str, Any] = {"capability": capability, "types": pointer_types("bf16")}
    layouts = {
        name: tune(name, capability=capability, rows=rows, head_size=size)
        for name, rows in (("forward", block_q), ("grad_q", block_q), ("grad_kv", 64), ("state", STATE_BLOCK))
    }
    kernels = [
        compiled(triton_forward.forward_kernel, layouts["forward"], **where, **blocks, LINEAR=True, SAVE=True),
        *(
            compiled(kernel, layouts[name], **where, **blocks, STEP_Q=layouts[name].step_q)
            for name, kernel in (
                ("grad_q", triton_backward.grad_q_kernel),
                ("grad_kv", triton_backward.grad_kv_kernel),
            )
        ),
    ]
    where["types"] = {**where["types"], "state_ptr": "*fp32"}
    state: dict[str, Any] = {"BLOCK": STATE_BLOCK, "HEAD_SIZE": size}
    kernels.append(compiled(triton_pool.linear_state_kernel, layouts["state"], **where, **state))
    for built in kernels:
        assert built.is_pipelined
        assert built.instructions(matrix_instructions(capability))


@pytest.mark.parametrize(
    ("capability", "block_sizes"), [*((capability, (128, 64)) for capability in CAPABILITIES), (90, (64, 128))]
)
def test_the_eight_bit_kernel_multiplies_in_eight_bits(capability: int, block_sizes: tuple[int, int]) -> None:
    """int8 scores (fp8 on sm_100, where Triton has no int8 matrix instruction), fp8 values (fp16 on sm_80)."""
    pytest.importorskip("triton", reason=NEEDS_TRITON)
    from homereel.kernels.sparse_linear_attention import triton, triton_eight_bit

    names = {torch.int8: "*i8", torch.float16: "*fp16", torch.float8_e4m3fn: "*fp8e4nv"}
    scores, values = names[triton.score_dtype(capability)], names[triton.value_dtype(capability)]
    types: dict[str, str] = {**pointer_types("bf16"), "q8_ptr": scores, "k8_ptr": scores, "v8_ptr": values}
    built = compiled(
        triton_eight_bit.eight_bit_kernel,
        triton.tune("eight_bit", capability=capability, rows=block_sizes[0], head_size=128),
        capability=capability,
        types=types,
        BLOCK_Q=block_sizes[0],
        BLOCK_K=block_sizes[1],
        HEAD_SIZE=128,
        LINEAR=True,
    )
    assert built.is_pipelined
    used = " ".join(built.instructions(matrix_instructions(capability)))
    wanted = {80: ("s8.s8", "f16.f16"), 100: ("kind::f8f6f4",)}.get(capability, ("s8.s8", "e4m3.e4m3"))
    assert all(kind in used for kind in wanted), used


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({name: measure(case) for name, case in CASES.items()}))
