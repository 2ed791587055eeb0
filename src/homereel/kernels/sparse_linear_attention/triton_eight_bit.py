"""Triton kernels of the 8-bit forward pass (SageAttention 2, arXiv 2411.10958), on sparse blocks.

q and k (less its mean, which adds the same to a whole row of scores) are int8 or fp8, one scale a block; v is fp8 or
fp16, one scale a channel, stored (B·H, D, L) because 8-bit matrix instructions want both operands along the summed
axis. Quantised tensors are filled up with zeros to whole blocks, so no load needs a bound.
"""
# mypy: allow-untyped-decorators
# ruff: noqa: PLR0917 - a kernel takes its arguments by position

from __future__ import annotations

import triton
import triton.language as tl

from homereel.kernels.sparse_linear_attention.triton_forward import add_linear_rows, store_block
from homereel.kernels.sparse_linear_attention.triton_pool import at_head, load_block

P_SCALE = tl.constexpr(448.0)  # probabilities are spread over the range of fp8 e4m3


@triton.jit(do_not_specialize=["length", "num_heads"])
def quantise_rows_kernel(
    x_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    out_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    length: int,
    num_heads: int,
    stride_b: tl.tensor,
    stride_l: tl.tensor,
    stride_h: tl.tensor,
    BLOCK: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    LIMIT: tl.constexpr,
) -> None:
    """x less mean (B·H, D), to (B·H, blocks · BLOCK, D) and one scale a block. Grid: blocks, batch × heads.

    LIMIT is the largest number of the target type: 127 for int8, 448 for fp8 e4m3.
    """
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    columns = tl.arange(0, HEAD_SIZE)
    x = load_block(at_head(x_ptr, stride_b, stride_h, num_heads), block * BLOCK, length, stride_l, BLOCK, HEAD_SIZE).to(
        tl.float32
    )
    x -= tl.load(mean_ptr + head * HEAD_SIZE + columns)[None, :]
    x = tl.where((tl.arange(0, BLOCK) < length - block * BLOCK)[:, None], x, 0.0)
    scale = tl.maximum(tl.max(tl.max(tl.abs(x), 1), 0), 1e-8) / LIMIT
    x = x / scale
    if LIMIT == 127:
        x = tl.floor(x + 0.5)
    row = head * tl.num_programs(0) + block
    tl.store(scale_ptr + row, scale)
    places = (row * BLOCK + tl.arange(0, BLOCK)[:, None]) * HEAD_SIZE + columns[None, :]
    tl.store(out_ptr + places, x.to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["length", "num_heads"])
def quantise_values_kernel(
    v_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    out_ptr: tl.tensor,
    length: int,
    num_heads: int,
    stride_b: tl.tensor,
    stride_l: tl.tensor,
    stride_h: tl.tensor,
    BLOCK: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """v over its channel's scale (B·H, D), to (B·H, D, blocks · BLOCK). Grid: blocks, batch × heads."""
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, HEAD_SIZE)
    v = load_block(at_head(v_ptr, stride_b, stride_h, num_heads), block * BLOCK, length, stride_l, BLOCK, HEAD_SIZE)
    v = v.to(tl.float32) / tl.load(scale_ptr + head * HEAD_SIZE + columns)[None, :]
    v = tl.trans(tl.where((rows < length - block * BLOCK)[:, None], v, 0.0))
    width = tl.num_programs(0) * BLOCK
    places = (head * HEAD_SIZE + columns[:, None]) * width + block * BLOCK + rows[None, :]
    tl.store(out_ptr + places, v.to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["length", "num_heads", "num_kept", "num_blocks"])
def eight_bit_kernel(
    q8_ptr: tl.tensor,
    k8_ptr: tl.tensor,
    v8_ptr: tl.tensor,
    q_scale_ptr: tl.tensor,
    k_scale_ptr: tl.tensor,
    v_scale_ptr: tl.tensor,
    kept_ptr: tl.tensor,
    q_ptr: tl.tensor,
    out_ptr: tl.tensor,
    state_ptr: tl.tensor,
    sum_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    length: int,
    num_heads: int,
    num_kept: int,
    num_blocks: int,
    scale: float,
    q_stride_b: tl.tensor,
    q_stride_l: tl.tensor,
    q_stride_h: tl.tensor,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    LINEAR: tl.constexpr,
) -> None:
    """As `forward_kernel`, from quantised q, k and v. `q` itself is for the linear branch. Grid: query blocks,
    batch × heads; `num_blocks` counts the blocks of keys."""
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    first = block * BLOCK_Q
    row = head * tl.num_programs(0) + block
    columns = tl.arange(0, HEAD_SIZE)
    keys = tl.arange(0, BLOCK_K)
    q = tl.load(q8_ptr + (row * BLOCK_Q + tl.arange(0, BLOCK_Q)[:, None]) * HEAD_SIZE + columns[None, :])
    q_scale = tl.load(q_scale_ptr + row) * scale
    k8_ptr += head * num_blocks * BLOCK_K * HEAD_SIZE
    v8_ptr += head * num_blocks * BLOCK_K * HEAD_SIZE
    k_scale_ptr += head * num_blocks
    kept_ptr += row * num_kept
    k_places = columns[:, None] + keys[None, :] * HEAD_SIZE
    v_places = keys[:, None] + columns[None, :] * (num_blocks * BLOCK_K)

    acc = tl.zeros([BLOCK_Q, HEAD_SIZE], tl.float32)
    top = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    last = tl.load(kept_ptr + num_kept - 1)
    is_ragged = (last + 1) * BLOCK_K > length
    for index in range(0, num_kept - is_ragged.to(tl.int32)):
        key = tl.load(kept_ptr + index)
        k_t = tl.load(k8_ptr + key.to(tl.int64) * (BLOCK_K * HEAD_SIZE) + k_places)
        v = tl.load(v8_ptr + key * BLOCK_K + v_places)
        scores = tl.dot(q, k_t).to(tl.float32) * (q_scale * tl.load(k_scale_ptr + key))
        acc, top, total = _online_softmax(scores, v, acc, top, total)
    if is_ragged:
        k_t = tl.load(k8_ptr + last.to(tl.int64) * (BLOCK_K * HEAD_SIZE) + k_places)
        v = tl.load(v8_ptr + last * BLOCK_K + v_places)
        scores = tl.dot(q, k_t).to(tl.float32) * (q_scale * tl.load(k_scale_ptr + last))
        scores = tl.where((keys < length - last * BLOCK_K)[None, :], scores, float("-inf"))
        acc, top, total = _online_softmax(scores, v, acc, top, total)
    out = acc * tl.load(v_scale_ptr + head * HEAD_SIZE + columns)[None, :] / (total * P_SCALE)[:, None]

    if LINEAR:
        q_full = load_block(
            at_head(q_ptr, q_stride_b, q_stride_h, num_heads), first, length, q_stride_l, BLOCK_Q, HEAD_SIZE
        )
        out = add_linear_rows(out, q_full, state_ptr, sum_ptr, bias_ptr, HEAD_SIZE)
    store_block(out_ptr, out, first, length, num_heads, BLOCK_Q, HEAD_SIZE)


@triton.jit
def _online_softmax(scores: tl.tensor, v: tl.tensor, acc: tl.tensor, top: tl.tensor, total: tl.tensor) -> tl.tensor:
    """As `online_softmax`, with probabilities in the type of v, spread over its range."""
    new_top = tl.maximum(top, tl.max(scores, 1))
    p = tl.exp2(scores - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(p, 1)
    # Hopper sums fp8 products in few bits: these partial sums join the full-precision ones every 64 tokens
    acc = tl.dot((p * P_SCALE).to(v.dtype), v, acc * shrink[:, None], max_num_imprecise_acc=64)
    return acc, new_top, total
