"""Norms with what follows them in Triton: what `reference.py` says, in one pass over memory.

A token's channels stay in registers. Lengths may change from call to call without compiling again.
"""
# mypy: allow-untyped-decorators
# ruff: noqa: PLR0917  # a kernel's arguments have places

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from homereel.kernels.int8_linear.schemes import RANGES, Scheme
from homereel.kernels.int8_linear.triton import scale_of_row, to_8_bits

_NUMBERS = 1024  # short rows share a program, up to so many numbers


def rms_norm_rope(
    x_BLC: Tensor,
    weight: Tensor,
    cos_BLHP: Tensor | None,
    sin_BLHP: Tensor | None,
    *,
    num_heads: int,
    eps: float,
    interleaved: bool,
) -> Tensor:
    """(B, L, H, D). Tokens may lie apart, as parts of a fused projection do; their channels must not."""
    x_BLC = x_BLC if x_BLC.stride(2) == 1 else x_BLC.contiguous()
    batch, length, channels = x_BLC.shape
    out_BLHD = torch.empty(batch, length, num_heads, channels // num_heads, dtype=x_BLC.dtype, device=x_BLC.device)
    num_rows = batch * length * (channels // weight.numel())
    if num_rows == 0:
        return out_BLHD
    cos = weight if cos_BLHP is None else _close(cos_BLHP)  # without positions it is never read
    sin = weight if sin_BLHP is None else _close(sin_BLHP)
    cos_strides = (0, 0, 0) if cos_BLHP is None else _strides(cos)
    sin_strides = (0, 0, 0) if sin_BLHP is None else _strides(sin)
    settings = rope_settings(weight.numel(), head_size=channels // num_heads, interleaved=interleaved)
    rms_norm_rope_kernel[(triton.cdiv(num_rows, settings["ROWS"]),)](
        x_BLC, weight.contiguous(), cos, sin, out_BLHD, num_rows, length, channels, eps,
        x_BLC.stride(0), x_BLC.stride(1), *cos_strides, *sin_strides, HAS_ROPE=cos_BLHP is not None, **settings
    )  # fmt: skip
    return out_BLHD


def norm_modulate(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, *, eps: float, add_one: bool, centre: bool
) -> Tensor:
    """In the type of `x_BLC`."""
    x_BLC = x_BLC.contiguous()
    out_BLC = torch.empty_like(x_BLC)
    _launch_norm(x_BLC, gain, offset, out_BLC, None, eps=eps, ADD_ONE=add_one, CENTRE=centre)
    return out_BLC


def norm_modulate_quantize(
    x_BLC: Tensor,
    gain: Tensor | None,
    offset: Tensor | None,
    *,
    eps: float,
    add_one: bool,
    centre: bool,
    scheme: Scheme,
) -> tuple[Tensor, Tensor]:
    """8-bit numbers (B·L, C) and a scale a token."""
    x_BLC, bounds = x_BLC.contiguous(), RANGES[scheme]
    values_MK = torch.empty_like(x_BLC.flatten(0, 1), dtype=bounds.dtype)
    scale_M = torch.empty(values_MK.shape[0], dtype=torch.float32, device=x_BLC.device)
    settings = {"LIMIT": bounds.limit, "FLOOR": bounds.floor, "IS_INT": bounds.dtype == torch.int8}
    _launch_norm(x_BLC, gain, offset, values_MK, scale_M, eps=eps, ADD_ONE=add_one, CENTRE=centre, **settings)
    return values_MK, scale_M


def rope_settings(group_size: int, *, head_size: int, interleaved: bool) -> dict[str, Any]:
    """What `rms_norm_rope_kernel` is compiled with, apart from HAS_ROPE, for norms over `group_size` channels."""
    block = max(triton.next_power_of_2(group_size), 16)
    rows = max(_NUMBERS // block, 1)
    return {
        "GROUP_SIZE": group_size,
        "HEAD_SIZE": head_size,
        "INTERLEAVED": interleaved,
        "ROWS": rows,
        "BLOCK": block,
        "num_warps": _num_warps(block * rows),
    }


def norm_settings(num_channels: int) -> dict[str, Any]:
    """What `norm_modulate_kernel` is compiled with, apart from what is asked of it."""
    block = max(triton.next_power_of_2(num_channels), 16)
    return {"NUM_CHANNELS": num_channels, "BLOCK": block, "num_warps": _num_warps(block)}


def _num_warps(numbers: int) -> int:
    return int(min(max(numbers // 512, 1), 16))


def _launch_norm(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, out: Tensor, scale_M: Tensor | None, **asked: Any
) -> None:
    batch, length, channels = x_BLC.shape
    if batch * length == 0:
        return
    tables = [x_BLC if table is None else _close(table) for table in (gain, offset)]  # absent ones are never read
    strides = [_strides(table)[:2] for table in tables]
    asked = {"LIMIT": 0.0, "FLOOR": 0.0, "IS_INT": False} | asked
    norm_modulate_kernel[(batch * length,)](
        x_BLC, *tables, out, out if scale_M is None else scale_M, length, asked.pop("eps"), *strides[0], *strides[1],
        HAS_GAIN=gain is not None, HAS_OFFSET=offset is not None, QUANTIZE=scale_M is not None,
        **asked, **norm_settings(channels)
    )  # fmt: skip


def _close(table: Tensor) -> Tensor:
    """`table` with the numbers of its last dimension side by side."""
    return table if table.stride(-1) == 1 else table.contiguous()


def _strides(table: Tensor) -> tuple[int, ...]:
    """Steps of all but the last dimension, 0 where one entry serves all."""
    return tuple(0 if size == 1 else step for size, step in zip(table.shape[:-1], table.stride()[:-1], strict=True))


@triton.jit(do_not_specialize=["num_rows", "length"])
def rms_norm_rope_kernel(
    x_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    cos_ptr: tl.tensor,
    sin_ptr: tl.tensor,
    out_ptr: tl.tensor,
    num_rows: int,
    length: int,
    num_channels: int,
    eps: float,
    x_stride_b: int,
    x_stride_l: int,
    cos_stride_b: int,
    cos_stride_l: int,
    cos_stride_h: int,
    sin_stride_b: int,
    sin_stride_l: int,
    sin_stride_h: int,
    HAS_ROPE: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Rows are stretches of GROUP_SIZE channels that are normed together: a token, or a head of one."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    groups = num_channels // GROUP_SIZE
    token = row // groups
    batch = (token // length).to(tl.int64)
    place = (token % length).to(tl.int64)
    first_channel = row % groups * GROUP_SIZE
    x_row = x_ptr + (batch * x_stride_b + place * x_stride_l + first_channel)[:, None]
    out_row = out_ptr + (row.to(tl.int64) * GROUP_SIZE)[:, None]
    pair = tl.arange(0, BLOCK // 2)
    head = pair // (HEAD_SIZE // 2)
    within = pair % (HEAD_SIZE // 2)
    inside = (row < num_rows)[:, None] & (pair < GROUP_SIZE // 2)[None, :]
    channel = tl.arange(0, BLOCK)
    inside_whole = (row < num_rows)[:, None] & (channel < GROUP_SIZE)[None, :]
    first = head * HEAD_SIZE + within  # of a pair whose second is half a head further
    second = first + HEAD_SIZE // 2
    if INTERLEAVED:
        x = tl.load(x_row + channel[None, :], mask=inside_whole, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + channel, mask=channel < GROUP_SIZE, other=0.0).to(tl.float32)
        normed = x * tl.rsqrt(tl.sum(x * x, 1) / GROUP_SIZE + eps)[:, None] * weight[None, :]
        a, b = tl.split(tl.reshape(normed, (ROWS, BLOCK // 2, 2)))
    else:
        a = tl.load(x_row + first[None, :], mask=inside, other=0.0).to(tl.float32)
        b = tl.load(x_row + second[None, :], mask=inside, other=0.0).to(tl.float32)
        factor = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / GROUP_SIZE + eps)[:, None]
        known = pair < GROUP_SIZE // 2
        a = a * factor * tl.load(weight_ptr + first, mask=known, other=0.0).to(tl.float32)[None, :]
        b = b * factor * tl.load(weight_ptr + second, mask=known, other=0.0).to(tl.float32)[None, :]
    if HAS_ROPE:
        all_heads = first_channel[:, None] // HEAD_SIZE + head[None, :]
        cos_row = cos_ptr + (batch * cos_stride_b + place * cos_stride_l)[:, None]
        sin_row = sin_ptr + (batch * sin_stride_b + place * sin_stride_l)[:, None]
        cos = tl.load(cos_row + all_heads * cos_stride_h + within[None, :], mask=inside, other=0.0).to(tl.float32)
        sin = tl.load(sin_row + all_heads * sin_stride_h + within[None, :], mask=inside, other=0.0).to(tl.float32)
        a, b = a * cos - b * sin, a * sin + b * cos
    out_type: tl.constexpr = out_ptr.dtype.element_ty
    if INTERLEAVED:
        whole = tl.reshape(tl.join(a.to(out_type), b.to(out_type)), (ROWS, BLOCK))
        tl.store(out_row + channel[None, :], whole, mask=inside_whole)
    else:
        tl.store(out_row + first[None, :], a.to(out_type), mask=inside)
        tl.store(out_row + second[None, :], b.to(out_type), mask=inside)


@triton.jit(do_not_specialize=["length"])
def norm_modulate_kernel(
    x_ptr: tl.tensor,
    gain_ptr: tl.tensor,
    offset_ptr: tl.tensor,
    out_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    length: int,
    eps: float,
    gain_stride_b: int,
    gain_stride_l: int,
    offset_stride_b: int,
    offset_stride_l: int,
    ADD_ONE: tl.constexpr,
    CENTRE: tl.constexpr,
    HAS_GAIN: tl.constexpr,
    HAS_OFFSET: tl.constexpr,
    QUANTIZE: tl.constexpr,
    LIMIT: tl.constexpr,
    FLOOR: tl.constexpr,
    IS_INT: tl.constexpr,
    NUM_CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program a token. With QUANTIZE the result goes into 8 bits, and its scale to `scale_ptr`."""
    token = tl.program_id(0).to(tl.int64)
    batch, place = token // length, token % length
    channel = tl.arange(0, BLOCK)
    inside = channel < NUM_CHANNELS
    x = tl.load(x_ptr + token * NUM_CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
    if CENTRE:
        x = tl.where(inside, x - tl.sum(x, 0) / NUM_CHANNELS, 0.0)
    x = x * tl.rsqrt(tl.sum(x * x, 0) / NUM_CHANNELS + eps)
    if HAS_GAIN:
        gain_row = gain_ptr + batch * gain_stride_b + place * gain_stride_l
        gain = tl.load(gain_row + channel, mask=inside, other=0.0).to(tl.float32)
        x = x * (1.0 + gain) if ADD_ONE else x * gain
    if HAS_OFFSET:
        offset_row = offset_ptr + batch * offset_stride_b + place * offset_stride_l
        x = x + tl.load(offset_row + channel, mask=inside, other=0.0).to(tl.float32)
    out_row = out_ptr + token * NUM_CHANNELS
    if QUANTIZE:
        scale, inverse = scale_of_row(x, LIMIT, FLOOR)
        tl.store(out_row + channel, to_8_bits(x, inverse, LIMIT, IS_INT), mask=inside)
        tl.store(scale_ptr + token, scale)
    else:
        tl.store(out_row + channel, x.to(out_ptr.dtype.element_ty), mask=inside)
