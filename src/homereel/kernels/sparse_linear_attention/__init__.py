"""Sparse-linear attention as one operator that torch.compile passes through: `homereel::sparse_linear_attention`.

Triton kernels on NVIDIA GPUs, a chunked gather in plain PyTorch elsewhere; `reference.py` is the specification.
"""

from __future__ import annotations

import torch
from torch import Tensor

from homereel.core.errors import UnsupportedPass
from homereel.kernels.sparse_linear_attention.blocks import num_kept_blocks
from homereel.kernels.sparse_linear_attention.limits import BLOCK_SIZES, support
from homereel.kernels.sparse_linear_attention.operator import attention, attention_operator

__all__ = ["sparse_linear_attention", "support"]


def sparse_linear_attention(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    *,
    ratio: float = 0.1,
    budget: int | None = None,
    proj_weight: Tensor | None = None,
    proj_bias: Tensor | None = None,
    block_q: int = 128,
    block_k: int = 64,
    eight_bit: bool = False,
) -> Tensor:
    """Self-attention (B, L, H, D) that keeps `ratio` of the key blocks, or `budget` of them, for each query block.

    q and k carry their rotary position already; all three share shape and dtype, and any L will do. `proj_weight`
    (D, D) and `proj_bias` (D) are the projection of the linear branch, shared by all heads; without a weight that
    branch is not computed. Differentiable, except with `eight_bit`, which is for GPUs and inference. Where
    `support` names a reason, a GPU computes it in plain PyTorch, right but slower.
    """
    assert q_BLHD.shape == k_BLHD.shape == v_BLHD.shape, (q_BLHD.shape, k_BLHD.shape, v_BLHD.shape)
    assert q_BLHD.dtype == k_BLHD.dtype == v_BLHD.dtype, (q_BLHD.dtype, k_BLHD.dtype, v_BLHD.dtype)
    assert (block_q, block_k) in BLOCK_SIZES, (block_q, block_k)
    assert proj_weight is not None or proj_bias is None
    inputs = [x for x in (q_BLHD, k_BLHD, v_BLHD, proj_weight, proj_bias) if x is not None]
    save = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if eight_bit and save:
        raise UnsupportedPass("8-bit attention computes no gradients; use it under torch.no_grad(), or without 8 bits")
    num_kept = num_kept_blocks(k_BLHD.shape[1], block_k=block_k, ratio=ratio, budget=budget)
    straight = q_BLHD.device.type == "cpu" and not save and not torch.compiler.is_compiling()
    out: Tensor = (attention if straight else attention_operator)(
        q_BLHD, k_BLHD, v_BLHD, proj_weight, proj_bias, num_kept, block_q, block_k, eight_bit, save
    )[0]
    return out
