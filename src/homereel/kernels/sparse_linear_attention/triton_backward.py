"""Triton kernels of the backward pass through the sparse part, from the saved log-sum-exp.

With p = exp(s - lse), Δ = Σ o·do and ds = p (dp - Δ): dQ walks the kept blocks of its query block; dK and dV walk the
query blocks that kept their key block, listed by `queries_of_keys`. No gradient passes through the choice of blocks.
"""
# mypy: allow-untyped-decorators
# ruff: noqa: PLR0917 - a kernel takes its arguments by position

from __future__ import annotations

import triton
import triton.language as tl

from homereel.kernels.sparse_linear_attention.triton_forward import store_block
from homereel.kernels.sparse_linear_attention.triton_pool import at_head, load_block

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["length", "num_heads", "num_kept"])
def grad_q_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    kept_ptr: tl.tensor,
    sparse_ptr: tl.tensor,
    grad_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    delta_ptr: tl.tensor,
    grad_q_ptr: tl.tensor,
    length: int,
    num_heads: int,
    num_kept: int,
    scale: float,
    q_stride_b: tl.tensor,
    q_stride_l: tl.tensor,
    q_stride_h: tl.tensor,
    k_stride_b: tl.tensor,
    k_stride_l: tl.tensor,
    k_stride_h: tl.tensor,
    v_stride_b: tl.tensor,
    v_stride_l: tl.tensor,
    v_stride_h: tl.tensor,
    o_stride_b: tl.tensor,
    o_stride_l: tl.tensor,
    o_stride_h: tl.tensor,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STEP_Q: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """dQ (B, L, H, D) float32, and Δ (B, H, L) for the other kernel. Grid: steps of STEP_Q queries, batch × heads."""
    head = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * STEP_Q
    k_ptr = at_head(k_ptr, k_stride_b, k_stride_h, num_heads)
    v_ptr = at_head(v_ptr, v_stride_b, v_stride_h, num_heads)
    q = load_block(at_head(q_ptr, q_stride_b, q_stride_h, num_heads), first, length, q_stride_l, STEP_Q, HEAD_SIZE)
    grad = load_block(
        at_head(grad_ptr, o_stride_b, o_stride_h, num_heads), first, length, o_stride_l, STEP_Q, HEAD_SIZE
    )
    out = load_block(
        at_head(sparse_ptr, o_stride_b, o_stride_h, num_heads), first, length, o_stride_l, STEP_Q, HEAD_SIZE
    )
    rows = first + tl.arange(0, STEP_Q)
    delta = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    tl.store(delta_ptr + head * length + rows, delta, mask=rows < length)
    lse = tl.load(lse_ptr + head * length + rows, mask=rows < length, other=0.0) * LOG2_E

    kept_ptr += (head * tl.cdiv(length, BLOCK_Q) + first // BLOCK_Q) * num_kept
    acc = tl.zeros([STEP_Q, HEAD_SIZE], tl.float32)
    for index in range(0, num_kept):
        key = tl.load(kept_ptr + index) * BLOCK_K
        k = load_block(k_ptr, key, length, k_stride_l, BLOCK_K, HEAD_SIZE)
        v = load_block(v_ptr, key, length, v_stride_l, BLOCK_K, HEAD_SIZE)
        scores = tl.dot(q, tl.trans(k))
        p = tl.exp2(scores * (scale * LOG2_E) - lse[:, None])
        p = tl.where((tl.arange(0, BLOCK_K) < length - key)[None, :], p, 0.0)
        dp = tl.dot(grad, tl.trans(v))
        ds = p * (dp - delta[:, None])
        acc = tl.dot(ds.to(k.dtype), k, acc)
    store_block(grad_q_ptr, acc * scale, first, length, num_heads, STEP_Q, HEAD_SIZE)


@triton.jit(do_not_specialize=["length", "num_heads", "num_listed"])
def grad_kv_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    queries_ptr: tl.tensor,
    starts_ptr: tl.tensor,
    grad_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    delta_ptr: tl.tensor,
    grad_k_ptr: tl.tensor,
    grad_v_ptr: tl.tensor,
    length: int,
    num_heads: int,
    num_listed: int,
    scale: float,
    q_stride_b: tl.tensor,
    q_stride_l: tl.tensor,
    q_stride_h: tl.tensor,
    k_stride_b: tl.tensor,
    k_stride_l: tl.tensor,
    k_stride_h: tl.tensor,
    v_stride_b: tl.tensor,
    v_stride_l: tl.tensor,
    v_stride_h: tl.tensor,
    o_stride_b: tl.tensor,
    o_stride_l: tl.tensor,
    o_stride_h: tl.tensor,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STEP_Q: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """dK and dV (B, L, H, D) float32 of one block of keys. Grid: key blocks, batch × heads.

    `queries` (B·H, num_listed) lists query blocks, sorted by the key block that they kept; `starts` (B·H, K + 1) says
    where each key block's part begins. A query block is taken in steps of STEP_Q rows, which saves registers.
    """
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    key = block * BLOCK_K
    q_ptr = at_head(q_ptr, q_stride_b, q_stride_h, num_heads)
    grad_ptr = at_head(grad_ptr, o_stride_b, o_stride_h, num_heads)
    k = load_block(at_head(k_ptr, k_stride_b, k_stride_h, num_heads), key, length, k_stride_l, BLOCK_K, HEAD_SIZE)
    v = load_block(at_head(v_ptr, v_stride_b, v_stride_h, num_heads), key, length, v_stride_l, BLOCK_K, HEAD_SIZE)
    lse_ptr += head * length
    delta_ptr += head * length
    starts_ptr += head * (tl.num_programs(0) + 1) + block
    queries_ptr += head * num_listed

    steps: tl.constexpr = BLOCK_Q // STEP_Q
    grad_k = tl.zeros([BLOCK_K, HEAD_SIZE], tl.float32)
    grad_v = tl.zeros([BLOCK_K, HEAD_SIZE], tl.float32)
    for index in range(tl.load(starts_ptr) * steps, tl.load(starts_ptr + 1) * steps):
        first = tl.load(queries_ptr + index // steps) * BLOCK_Q + (index % steps) * STEP_Q
        first = tl.minimum(first, length)  # a step may lie wholly beyond the last token
        q = load_block(q_ptr, first, length, q_stride_l, STEP_Q, HEAD_SIZE)
        grad = load_block(grad_ptr, first, length, o_stride_l, STEP_Q, HEAD_SIZE)
        rows = first + tl.arange(0, STEP_Q)
        lse = tl.load(lse_ptr + rows, mask=rows < length, other=float("inf")) * LOG2_E  # beyond the last token p is 0
        delta = tl.load(delta_ptr + rows, mask=rows < length, other=0.0)
        scores_t = tl.dot(k, tl.trans(q))
        p_t = tl.exp2(scores_t * (scale * LOG2_E) - lse[None, :])
        grad_v = tl.dot(p_t.to(grad.dtype), grad, grad_v)
        dp_t = tl.dot(v, tl.trans(grad))
        ds_t = p_t * (dp_t - delta[None, :])
        grad_k = tl.dot(ds_t.to(q.dtype), q, grad_k)
    store_block(grad_k_ptr, grad_k * scale, key, length, num_heads, BLOCK_K, HEAD_SIZE)
    store_block(grad_v_ptr, grad_v, key, length, num_heads, BLOCK_K, HEAD_SIZE)
