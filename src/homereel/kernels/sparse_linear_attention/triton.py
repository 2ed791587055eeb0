"""Launches the Triton kernels of sparse-linear attention: forward, backward, and the 8-bit forward.

Triton comes with torch's CUDA builds; this module is imported only where a kernel is to run. Lengths, the number of
kept blocks and scales are run-time arguments, so a kernel is compiled once for all clips.

Shapes: B batch, L tokens, H heads, D head size; Q blocks of queries, K blocks of keys, T blocks kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from homereel.kernels.sparse_linear_attention.blocks import mean_of_blocks, num_blocks_of, top_blocks
from homereel.kernels.sparse_linear_attention.triton_backward import grad_kv_kernel, grad_q_kernel
from homereel.kernels.sparse_linear_attention.triton_eight_bit import (
    eight_bit_kernel,
    quantise_rows_kernel,
    quantise_values_kernel,
)
from homereel.kernels.sparse_linear_attention.triton_forward import forward_kernel
from homereel.kernels.sparse_linear_attention.triton_pool import linear_state_kernel, pool_kernel

LOG2_E = math.log2(math.e)
STATE_BLOCK = 64  # tokens at a time in the linear branch's state
STATE_PROGRAMS = 512  # enough to fill a large GPU
FP8_MAX = 448.0


@dataclass(frozen=True)
class Tuning:
    """How a kernel is laid out: warps a program, loads that run ahead, and query rows at a time in the backward."""

    num_warps: int
    num_stages: int
    step_q: int = 64

    def options(self) -> dict[str, int]:
        return {"num_warps": self.num_warps, "num_stages": self.num_stages}


def tune(kernel: str, *, capability: int, rows: int, head_size: int) -> Tuning:
    """The layout of "forward", "grad_q", "grad_kv", "eight_bit" or "state" for tiles of `rows` × `head_size`.

    Chosen so that nothing spills and shared memory fits: see tests/kernels. Because a kept block's place is itself
    loaded, 3 stages give two buffers and 5 give three. Only data-centre chips have room for three.
    """
    roomy = capability in {80, 90, 100, 103}
    num_warps = 8 if rows * head_size >= 64 * 128 else 4
    if kernel == "forward":
        return Tuning(num_warps, 5 if roomy else 3)
    if kernel == "grad_q" and head_size == 128 and not roomy:
        return Tuning(8, 2)
    return Tuning(num_warps, 3, step_q=rows if kernel == "grad_q" else 64)


def forward(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    *,
    num_kept: int,
    block_q: int,
    block_k: int,
    proj_weight: Tensor | None,
    proj_bias: Tensor | None,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """out (B, L, H, D); and if `save` what the backward needs: o_s, log-sum-exp (B, H, L), kept (B, H, Q, T).

    o_s is empty where there is no linear branch, because it is out itself.
    """
    q, k, v = (_by_rows(x) for x in (q_BLHD, k_BLHD, v_BLHD))
    batch, length, heads, size = q.shape
    kept = top_blocks(_pool(q, block=block_q), _pool(k, block=block_k), length, num_kept, block_k)
    state, total, bias = _linear_state(k, v, weight=proj_weight, bias=proj_bias)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    sparse = torch.empty_like(out) if save and proj_weight is not None else out.new_empty(0)
    lse = out.new_empty((batch, heads, length) if save else 0, dtype=torch.float32)
    layout = tune("forward", capability=_capability(q), rows=block_q, head_size=size)
    forward_kernel[num_blocks_of(length, block=block_q), batch * heads](
        *(q, k, v, kept, out, sparse, lse, state, total, bias),
        *(length, heads, num_kept, size**-0.5 * LOG2_E),
        *(*q.stride()[:3], *k.stride()[:3], *v.stride()[:3]),
        BLOCK_Q=block_q,
        BLOCK_K=block_k,
        HEAD_SIZE=size,
        LINEAR=proj_weight is not None,
        SAVE=save,
        **layout.options(),
    )
    return out, sparse, lse, kept if save else kept.new_empty(0)


def forward_eight_bit(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    *,
    num_kept: int,
    block_q: int,
    block_k: int,
    proj_weight: Tensor | None,
    proj_bias: Tensor | None,
) -> Tensor:
    """out (B, L, H, D), its scores from int8 (fp8 on Blackwell) and its values from fp8 (fp16 before Ada)."""
    q, k, v = (_by_rows(x) for x in (q_BLHD, k_BLHD, v_BLHD))
    batch, length, heads, size = q.shape
    capability = _capability(q)
    pooled_k = _pool(k, block=block_k)
    kept = top_blocks(_pool(q, block=block_q), pooled_k, length, num_kept, block_k)
    mean_k = mean_of_blocks(pooled_k, length=length, block=block_k).contiguous()
    q8, q_scale = _quantise_rows(q, torch.zeros_like(mean_k), block=block_q, dtype=score_dtype(capability))
    k8, k_scale = _quantise_rows(k, mean_k, block=block_k, dtype=score_dtype(capability))
    v8, v_scale = _quantise_values(v, block=block_k, dtype=value_dtype(capability))
    state, total, bias = _linear_state(k, v, weight=proj_weight, bias=proj_bias)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    layout = tune("eight_bit", capability=capability, rows=block_q, head_size=size)
    eight_bit_kernel[num_blocks_of(length, block=block_q), batch * heads](
        *(q8, k8, v8, q_scale, k_scale, v_scale, kept, q, out, state, total, bias),
        *(length, heads, num_kept, num_blocks_of(length, block=block_k), size**-0.5 * LOG2_E),
        *q.stride()[:3],
        BLOCK_Q=block_q,
        BLOCK_K=block_k,
        HEAD_SIZE=size,
        LINEAR=proj_weight is not None,
        **layout.options(),
    )
    return out


def backward(
    grad_BLHD: Tensor,
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    kept_BHQT: Tensor,
    *,
    sparse_BLHD: Tensor,
    lse_BHL: Tensor,
    block_q: int,
    block_k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v through the sparse part, float32."""
    q, k, v = (_by_rows(x) for x in (q_BLHD, k_BLHD, v_BLHD))
    grad = grad_BLHD.contiguous()
    batch, length, heads, size = q.shape
    grad_q, grad_k, grad_v = (torch.empty(q.shape, dtype=torch.float32, device=q.device) for _ in range(3))
    delta = torch.empty_like(lse_BHL)
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *grad.stride()[:3])
    scale, capability = size**-0.5, _capability(q)

    layout = tune("grad_q", capability=capability, rows=block_q, head_size=size)
    grad_q_kernel[num_blocks_of(length, block=layout.step_q), batch * heads](
        *(q, k, v, kept_BHQT, sparse_BLHD.contiguous(), grad, lse_BHL, delta, grad_q),
        *(length, heads, kept_BHQT.shape[-1], scale, *strides),
        BLOCK_Q=block_q,
        BLOCK_K=block_k,
        STEP_Q=layout.step_q,
        HEAD_SIZE=size,
        **layout.options(),
    )
    num_blocks = num_blocks_of(length, block=block_k)
    queries, starts = _queries_of_keys(kept_BHQT, num_blocks=num_blocks)
    layout = tune("grad_kv", capability=capability, rows=block_k, head_size=size)
    grad_kv_kernel[num_blocks, batch * heads](
        *(q, k, v, queries, starts, grad, lse_BHL, delta, grad_k, grad_v),
        *(length, heads, queries.shape[-1], scale, *strides),
        BLOCK_Q=block_q,
        BLOCK_K=block_k,
        STEP_Q=layout.step_q,
        HEAD_SIZE=size,
        **layout.options(),
    )
    return grad_q, grad_k, grad_v


def score_dtype(capability: int) -> torch.dtype:
    """What q and k become. For data-centre Blackwell Triton has no int8 matrix instruction, but fp8."""
    return torch.float8_e4m3fn if capability in {100, 103} else torch.int8


def value_dtype(capability: int) -> torch.dtype:
    """What v and the probabilities become: fp8 where the GPU multiplies it (Ada and later)."""
    return torch.float8_e4m3fn if capability >= 89 else torch.float16


def _by_rows(x: Tensor) -> Tensor:
    """Kernels take any strides but the last, which must be 1."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _capability(x: Tensor) -> int:
    """Compute capability of the tensor's GPU as in sm_90; the interpreter on a CPU plays the oldest."""
    if not x.is_cuda:
        return 80
    major, minor = torch.cuda.get_device_capability(x.device)
    return 10 * major + minor


def _pool(x_BLHD: Tensor, *, block: int) -> Tensor:
    batch, length, heads, size = x_BLHD.shape
    num_blocks = num_blocks_of(length, block=block)
    means = torch.empty(batch, heads, num_blocks, size, dtype=torch.float32, device=x_BLHD.device)
    pool_kernel[num_blocks, batch * heads](
        *(x_BLHD, means, length, heads, *x_BLHD.stride()[:3]), BLOCK=block, HEAD_SIZE=size
    )
    return means


def _linear_state(
    k_BLHD: Tensor, v_BLHD: Tensor, *, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The state with the projection folded in (B·H, D, D), Σφ(k) (B·H, D) and the bias (D); empty without a weight."""
    batch, length, heads, size = k_BLHD.shape
    if weight is None:
        nothing = torch.empty(0, dtype=torch.float32, device=k_BLHD.device)
        return nothing.to(k_BLHD.dtype), nothing, nothing
    num_blocks = num_blocks_of(length, block=STATE_BLOCK)
    parts = max(1, min(num_blocks, STATE_PROGRAMS // (batch * heads)))
    blocks_per_part = -(-num_blocks // parts)
    parts = -(-num_blocks // blocks_per_part)
    state = torch.empty(parts, batch * heads, size, size, dtype=torch.float32, device=k_BLHD.device)
    total = torch.empty(parts, batch * heads, size, dtype=torch.float32, device=k_BLHD.device)
    layout = tune("state", capability=_capability(k_BLHD), rows=STATE_BLOCK, head_size=size)
    linear_state_kernel[parts, batch * heads](
        *(k_BLHD, v_BLHD, state, total, length, heads, blocks_per_part),
        *(*k_BLHD.stride()[:3], *v_BLHD.stride()[:3]),
        BLOCK=STATE_BLOCK,
        HEAD_SIZE=size,
        **layout.options(),
    )
    projected = (state.sum(0) @ weight.float().mT).to(k_BLHD.dtype)
    return projected, total.sum(0), torch.zeros_like(total[0, 0]) if bias is None else bias.float()


def _quantise_rows(x_BLHD: Tensor, mean: Tensor, *, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    batch, length, heads, size = x_BLHD.shape
    num_blocks = num_blocks_of(length, block=block)
    out = torch.empty(batch * heads, num_blocks * block, size, dtype=dtype, device=x_BLHD.device)
    scale = torch.empty(batch * heads, num_blocks, dtype=torch.float32, device=x_BLHD.device)
    limit = 127.0 if dtype == torch.int8 else FP8_MAX
    quantise_rows_kernel[num_blocks, batch * heads](
        *(x_BLHD, mean, out, scale, length, heads, *x_BLHD.stride()[:3]), BLOCK=block, HEAD_SIZE=size, LIMIT=limit
    )
    return out, scale


def _quantise_values(v_BLHD: Tensor, *, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    batch, length, heads, size = v_BLHD.shape
    num_blocks = num_blocks_of(length, block=block)
    largest = torch.maximum(v_BLHD.amax(1), -v_BLHD.amin(1)).float()
    scale = (largest.clamp_min(1e-8) / FP8_MAX).reshape(batch * heads, size)
    out = torch.empty(batch * heads, size, num_blocks * block, dtype=dtype, device=v_BLHD.device)
    quantise_values_kernel[num_blocks, batch * heads](
        *(v_BLHD, scale, out, length, heads, *v_BLHD.stride()[:3]), BLOCK=block, HEAD_SIZE=size
    )
    return out, scale


def _queries_of_keys(kept_BHQT: Tensor, *, num_blocks: int) -> tuple[Tensor, Tensor]:
    """The block map, read the other way: for each key block the query blocks that kept it.

    All of a head's (B·H, Q·T) in one list, and where each key block's part begins (B·H, K + 1); both int32.
    """
    num_kept = kept_BHQT.shape[-1]
    keys, order = kept_BHQT.flatten(0, 1).flatten(1).sort(dim=-1)
    bounds = torch.arange(num_blocks + 1, dtype=keys.dtype, device=keys.device).expand(len(keys), -1).contiguous()
    return (order // num_kept).int(), torch.searchsorted(keys, bounds).int()
