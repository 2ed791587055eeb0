"""Triton kernels that read all tokens once: means of blocks, and the state of the linear branch.

Strides count numbers, not bytes. A program owns one batch and head: `at_head` points at its first number.
"""
# mypy: allow-untyped-decorators
# ruff: noqa: PLR0917 - a kernel takes its arguments by position

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def at_head(x_ptr: tl.tensor, stride_b: tl.tensor, stride_h: tl.tensor, num_heads: int) -> tl.tensor:
    """Where batch and head of this program begin; the second grid axis counts batch × heads."""
    index = tl.program_id(1).to(tl.int64)
    return x_ptr + (index // num_heads) * stride_b + (index % num_heads) * stride_h


@triton.jit
def load_block(
    x_ptr: tl.tensor,
    first: int,
    length: int,
    stride_l: tl.tensor,
    BLOCK: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    EVICTION: tl.constexpr = "",
) -> tl.tensor:
    """Tokens `first` to `first + BLOCK` of a head. Beyond the last token that token is repeated: no mask, so that
    the compiler can copy ahead; who reads a block masks what it makes of such rows."""
    rows = tl.minimum(tl.arange(0, BLOCK), length - 1 - first)
    start = x_ptr + tl.cast(first, tl.int64) * stride_l
    return tl.load(start + rows[:, None] * stride_l + tl.arange(0, HEAD_SIZE)[None, :], eviction_policy=EVICTION)


@triton.jit
def softmax_rows(x: tl.tensor) -> tl.tensor:
    """φ: softmax over the head size, in float32."""
    x = x.to(tl.float32)
    x = tl.exp(x - tl.max(x, 1)[:, None])
    return x / tl.sum(x, 1)[:, None]


@triton.jit(do_not_specialize=["length", "num_heads"])
def pool_kernel(
    x_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    length: int,
    num_heads: int,
    stride_b: tl.tensor,
    stride_l: tl.tensor,
    stride_h: tl.tensor,
    BLOCK: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """Mean of each block of tokens, (B·H, blocks, D) float32. Grid: blocks, batch × heads."""
    block = tl.program_id(0)
    first = block * BLOCK
    x = load_block(at_head(x_ptr, stride_b, stride_h, num_heads), first, length, stride_l, BLOCK, HEAD_SIZE)
    valid = tl.arange(0, BLOCK) < length - first
    total = tl.sum(tl.where(valid[:, None], x.to(tl.float32), 0.0), 0)
    row = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + block
    count = tl.minimum(length - first, BLOCK).to(tl.float32)
    tl.store(mean_ptr + row * HEAD_SIZE + tl.arange(0, HEAD_SIZE), total / count)


@triton.jit(do_not_specialize=["length", "num_heads", "blocks_per_part"])
def linear_state_kernel(
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    state_ptr: tl.tensor,
    sum_ptr: tl.tensor,
    length: int,
    num_heads: int,
    blocks_per_part: int,
    k_stride_b: tl.tensor,
    k_stride_l: tl.tensor,
    k_stride_h: tl.tensor,
    v_stride_b: tl.tensor,
    v_stride_l: tl.tensor,
    v_stride_h: tl.tensor,
    BLOCK: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """φ(k)ᵀ v (parts, B·H, D, D) and Σφ(k) (parts, B·H, D) over a part of the tokens. Grid: parts, batch × heads."""
    k_ptr = at_head(k_ptr, k_stride_b, k_stride_h, num_heads)
    v_ptr = at_head(v_ptr, v_stride_b, v_stride_h, num_heads)
    part = tl.program_id(0)
    last = tl.minimum((part + 1) * blocks_per_part * BLOCK, length)
    state = tl.zeros([HEAD_SIZE, HEAD_SIZE], tl.float32)
    total = tl.zeros([HEAD_SIZE], tl.float32)
    for first in range(part * blocks_per_part * BLOCK, last, BLOCK):
        k = load_block(k_ptr, first, length, k_stride_l, BLOCK, HEAD_SIZE)
        v = load_block(v_ptr, first, length, v_stride_l, BLOCK, HEAD_SIZE)
        valid = tl.arange(0, BLOCK) < length - first
        phi = tl.where(valid[:, None], softmax_rows(k), 0.0)
        total += tl.sum(phi, 0)
        state = tl.dot(tl.trans(phi).to(v.dtype), v, state)
    row = part.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    columns = tl.arange(0, HEAD_SIZE)
    tl.store(sum_ptr + row * HEAD_SIZE + columns, total)
    tl.store(state_ptr + (row * HEAD_SIZE + columns[:, None]) * HEAD_SIZE + columns[None, :], state)
