"""Triton kernel of the forward pass: softmax over the kept blocks, and the linear branch in the same sweep.

The kept blocks of a query block are ascending, so a ragged last block of keys can only be the last of the list: it
alone is masked, after the loop.
"""
# mypy: allow-untyped-decorators
# ruff: noqa: PLR0917 - a kernel takes its arguments by position

from __future__ import annotations

import triton
import triton.language as tl

from homereel.kernels.sparse_linear_attention.triton_pool import at_head, load_block, softmax_rows


@triton.jit(do_not_specialize=["length", "num_heads", "num_kept"])
def forward_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    kept_ptr: tl.tensor,
    out_ptr: tl.tensor,
    sparse_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    state_ptr: tl.tensor,
    sum_ptr: tl.tensor,
    bias_ptr: tl.tensor,
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
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    LINEAR: tl.constexpr,
    SAVE: tl.constexpr,
) -> None:
    """out = o_s + proj(o_l) (B, L, H, D) for one block of queries. Grid: query blocks, batch × heads.

    `scale` is D^-½ · log₂e. kept (B, H, Q, T); state (B·H, D, D) is (φ(k)ᵀ v) Wᵀ, sum (B·H, D) is Σφ(k). With SAVE,
    `sparse` is o_s and `lse` (B, H, L) the log-sum-exp of the scores, in natural units.
    """
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    first = block * BLOCK_Q
    q = load_block(at_head(q_ptr, q_stride_b, q_stride_h, num_heads), first, length, q_stride_l, BLOCK_Q, HEAD_SIZE)
    k_ptr = at_head(k_ptr, k_stride_b, k_stride_h, num_heads)
    v_ptr = at_head(v_ptr, v_stride_b, v_stride_h, num_heads)
    kept_ptr += (head * tl.num_programs(0) + block) * num_kept

    acc = tl.zeros([BLOCK_Q, HEAD_SIZE], tl.float32)
    top = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    last = tl.load(kept_ptr + num_kept - 1)
    is_ragged = (last + 1) * BLOCK_K > length
    for index in range(0, num_kept - is_ragged.to(tl.int32)):
        key = tl.load(kept_ptr + index) * BLOCK_K
        k = load_block(k_ptr, key, length, k_stride_l, BLOCK_K, HEAD_SIZE)
        v = load_block(v_ptr, key, length, v_stride_l, BLOCK_K, HEAD_SIZE)
        scores = tl.dot(q, tl.trans(k)) * scale
        acc, top, total = online_softmax(scores, v, acc, top, total)
    if is_ragged:
        key = last * BLOCK_K
        k = load_block(k_ptr, key, length, k_stride_l, BLOCK_K, HEAD_SIZE)
        v = load_block(v_ptr, key, length, v_stride_l, BLOCK_K, HEAD_SIZE)
        scores = tl.dot(q, tl.trans(k)) * scale
        valid = tl.arange(0, BLOCK_K) < length - key
        acc, top, total = online_softmax(tl.where(valid[None, :], scores, float("-inf")), v, acc, top, total)
    out = acc / total[:, None]

    rows = first + tl.arange(0, BLOCK_Q)
    if SAVE:
        tl.store(lse_ptr + head * length + rows, (top + tl.log2(total)) * 0.6931471805599453, mask=rows < length)
        if LINEAR:
            store_block(sparse_ptr, out, first, length, num_heads, BLOCK_Q, HEAD_SIZE)
    if LINEAR:
        head_ptr = at_head(q_ptr, q_stride_b, q_stride_h, num_heads)
        q = load_block(head_ptr, first, length, q_stride_l, BLOCK_Q, HEAD_SIZE, "evict_first")
        out = add_linear_rows(out, q, state_ptr, sum_ptr, bias_ptr, HEAD_SIZE)
    store_block(out_ptr, out, first, length, num_heads, BLOCK_Q, HEAD_SIZE)


@triton.jit
def online_softmax(scores: tl.tensor, v: tl.tensor, acc: tl.tensor, top: tl.tensor, total: tl.tensor) -> tl.tensor:
    """Take one more block into the running softmax, in powers of two."""
    new_top = tl.maximum(top, tl.max(scores, 1))
    p = tl.exp2(scores - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None])
    return acc, new_top, total


@triton.jit
def add_linear_rows(
    out: tl.tensor,
    q: tl.tensor,
    state_ptr: tl.tensor,
    sum_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    HEAD_SIZE: tl.constexpr,
) -> tl.tensor:
    """out + proj(o_l) for the rows of q: one product with the head's state, which holds the projection already.

    The product is summed onto out times its divisor, which spares the registers of a second result.
    """
    columns = tl.arange(0, HEAD_SIZE)
    head = tl.program_id(1).to(tl.int64)
    state = tl.load(state_ptr + (head * HEAD_SIZE + columns[:, None]) * HEAD_SIZE + columns[None, :])
    phi = softmax_rows(q)
    divisor = tl.sum(phi * tl.load(sum_ptr + head * HEAD_SIZE + columns)[None, :], 1) + 1e-5
    out = tl.dot(phi.to(state.dtype), state, out * divisor[:, None])
    return out / divisor[:, None] + tl.load(bias_ptr + columns)[None, :]


@triton.jit
def store_block(
    x_ptr: tl.tensor,
    x: tl.tensor,
    first: int,
    length: int,
    num_heads: int,
    BLOCK: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """Write tokens of this program's head into a contiguous (B, L, H, D)."""
    index = tl.program_id(1).to(tl.int64)
    rows = first + tl.arange(0, BLOCK).to(tl.int64)
    tokens = (index // num_heads) * length + rows
    places = (tokens * num_heads + index % num_heads) * HEAD_SIZE
    columns = tl.arange(0, HEAD_SIZE)
    tl.store(x_ptr + places[:, None] + columns[None, :], x.to(x_ptr.dtype.element_ty), mask=(rows < length)[:, None])
