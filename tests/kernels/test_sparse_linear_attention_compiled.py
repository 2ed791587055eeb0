"""The Triton kernels of sparse-linear attention, compiled for five generations of GPUs that are not there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.kernels.compile_for import CAPABILITIES, NEEDS_TRITON, SHARED_LIMIT_BYTES, Compiled, compile_for
from tests.kernels.slow import slow

pytest.importorskip("triton", reason=NEEDS_TRITON)


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
    ("capability", "size", "block_q"),
    [
        (80, 128, 128),
        (89, 128, 128),
        (90, 128, 128),
        (100, 64, 128),
        (120, 64, 64),
        *slow((100, 128, 128), (120, 128, 128), (89, 64, 64)),
    ],
)
def test_the_forward_kernel_fits_every_gpu(capability: int, size: int, block_q: int) -> None:
    """Shared memory within the limit, no spills, loads that run ahead, and that generation's matrix instruction.

    Heads of 64 compile in half the time, so those of 128 are for the tightest limit of each layout, and for 9.0.
    """
    from homereel.kernels.sparse_linear_attention import triton_forward
    from homereel.kernels.sparse_linear_attention.triton import tune

    built = compiled(
        triton_forward.forward_kernel,
        tune("forward", capability=capability, rows=block_q, head_size=size),
        capability=capability,
        types=pointer_types("bf16"),
        BLOCK_Q=block_q,
        BLOCK_K=64,
        HEAD_SIZE=size,
        LINEAR=True,
        SAVE=True,
    )
    assert built.is_pipelined
    assert built.instructions(matrix_instructions(capability))


@pytest.mark.parametrize(
    ("capability", "size", "block_q"),
    [
        (80, 64, 128),
        (89, 64, 64),
        (90, 128, 128),
        (100, 64, 128),
        (120, 128, 128),
        *slow((80, 128, 128), (89, 128, 128), (100, 128, 128)),
    ],
)
def test_the_kernels_of_the_state_and_of_gradients_fit_every_gpu(capability: int, size: int, block_q: int) -> None:
    """The same."""
    from homereel.kernels.sparse_linear_attention import triton_backward, triton_pool
    from homereel.kernels.sparse_linear_attention.triton import STATE_BLOCK, tune

    blocks: dict[str, Any] = {"BLOCK_Q": block_q, "BLOCK_K": 64, "HEAD_SIZE": size}
    where: dict[str, Any] = {"capability": capability, "types": {**pointer_types("bf16"), "state_ptr": "*fp32"}}
    layouts = {
        name: tune(name, capability=capability, rows=rows, head_size=size)
        for name, rows in (("grad_q", block_q), ("grad_kv", 64), ("state", STATE_BLOCK))
    }
    state: dict[str, Any] = {"BLOCK": STATE_BLOCK, "HEAD_SIZE": size}
    kernels = [compiled(triton_pool.linear_state_kernel, layouts["state"], **where, **state)]
    for name, kernel in (("grad_q", triton_backward.grad_q_kernel), ("grad_kv", triton_backward.grad_kv_kernel)):
        kernels.append(compiled(kernel, layouts[name], **where, **blocks, STEP_Q=layouts[name].step_q))
    for built in kernels:
        assert built.is_pipelined
        assert built.instructions(matrix_instructions(capability))


@pytest.mark.parametrize(
    ("capability", "size", "block_sizes"),
    [
        *((capability, size, (128, 64)) for capability, size in ((80, 64), (89, 128), (90, 128), (100, 64), (120, 64))),
        *slow(*((capability, 128, (128, 64)) for capability in (80, 100, 120)), (90, 128, (64, 128))),
    ],
)
def test_the_eight_bit_kernel_multiplies_in_eight_bits(
    capability: int, size: int, block_sizes: tuple[int, int]
) -> None:
    """int8 scores (fp8 on sm_100, where Triton has no int8 matrix instruction), fp8 values (fp16 on sm_80)."""
    from homereel.kernels.sparse_linear_attention import triton, triton_eight_bit

    names = {torch.int8: "*i8", torch.float16: "*fp16", torch.float8_e4m3fn: "*fp8e4nv"}
    scores, values = names[triton.score_dtype(capability)], names[triton.value_dtype(capability)]
    types: dict[str, str] = {**pointer_types("bf16"), "q8_ptr": scores, "k8_ptr": scores, "v8_ptr": values}
    built = compiled(
        triton_eight_bit.eight_bit_kernel,
        triton.tune("eight_bit", capability=capability, rows=block_sizes[0], head_size=size),
        capability=capability,
        types=types,
        BLOCK_Q=block_sizes[0],
        BLOCK_K=block_sizes[1],
        HEAD_SIZE=size,
        LINEAR=True,
    )
    assert built.is_pipelined
    used = " ".join(built.instructions(matrix_instructions(capability)))
    wanted = {80: ("s8.s8", "f16.f16"), 100: ("kind::f8f6f4",)}.get(capability, ("s8.s8", "e4m3.e4m3"))
    assert all(kind in used for kind in wanted), used


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_prepares_blocks_reads_in_wide_steps_and_spills_nothing(capability: int) -> None:
    """Means of blocks, and tokens into 8 bits: without matrix instructions, launched as Triton does by default."""
    from homereel.kernels.sparse_linear_attention import triton, triton_eight_bit, triton_pool

    names = {torch.int8: "*i8", torch.float16: "*fp16", torch.float8_e4m3fn: "*fp8e4nv"}
    scores, values = triton.score_dtype(capability), triton.value_dtype(capability)
    limit = 127.0 if scores == torch.int8 else triton.FP8_MAX
    types = {**pointer_types("bf16"), "scale_ptr": "*fp32"}
    size: dict[str, Any] = {"HEAD_SIZE": 128}
    for kernel, out, constants in (
        (triton_pool.pool_kernel, "*fp32", {"BLOCK": 128}),
        (triton_eight_bit.quantise_rows_kernel, names[scores], {"BLOCK": 128, "LIMIT": limit}),
        (triton_eight_bit.quantise_values_kernel, names[values], {"BLOCK": 64}),
    ):
        written = {**types, "out_ptr": out}
        built = compiled(kernel, triton.Tuning(4, 3), capability=capability, types=written, **size, **constants)
        assert built.instructions(r"ld\.global[\w.:]*v4"), kernel.__name__
