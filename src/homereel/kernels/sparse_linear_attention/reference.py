"""Sparse-linear attention in plain PyTorch: the specification (Zhang et al. 2025, arXiv 2509.24006).

Each block of queries attends, by softmax, to the few blocks of keys that fit it best; what is left out comes
back through a linear attention over all tokens and a projection that starts at zero: o = o_s + proj(o_l).

Shapes: B batch, L tokens, H heads, D head size; Q blocks of queries, K blocks of keys, T blocks kept.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.sparse_linear_attention.blocks import block_map, num_blocks_of
from homereel.kernels.sparse_linear_attention.linear import EPSILON


def reference(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    *,
    num_kept: int,
    block_q: int = 128,
    block_k: int = 64,
    proj_weight: Tensor | None = None,
    proj_bias: Tensor | None = None,
) -> Tensor:
    """Attention (B, L, H, D) of queries and keys that carry their rotary position already.

    Everything is computed in float32 (float64 for float64), in memory of L² numbers a head, and differentiable:
    gradients flow through softmax and projection, not through the choice of blocks. `proj_weight` (D, D) and
    `proj_bias` (D) are a Linear shared by all heads; without a weight there is no linear branch.
    """
    dtype = torch.promote_types(q_BLHD.dtype, torch.float32)
    q, k, v = (x.transpose(1, 2).to(dtype) for x in (q_BLHD, k_BLHD, v_BLHD))
    with torch.no_grad():
        kept = block_map(q_BLHD, k_BLHD, num_kept=num_kept, block_q=block_q, block_k=block_k)
        allowed = _allowed_pairs(kept, length=q.shape[2], block_q=block_q, block_k=block_k)
    out = _sparse_softmax(q, k, v, allowed)
    if proj_weight is not None:
        bias = None if proj_bias is None else proj_bias.to(dtype)
        out = out + F.linear(_linear_attention(q, k, v), proj_weight.to(dtype), bias)
    return out.transpose(1, 2).to(q_BLHD.dtype)


def _allowed_pairs(kept_BHQT: Tensor, *, length: int, block_q: int, block_k: int) -> Tensor:
    """The block map, opened up to tokens: (B, H, L, L) bool."""
    num_blocks = num_blocks_of(length, block=block_k)
    blocks = torch.zeros(*kept_BHQT.shape[:3], num_blocks, dtype=torch.bool, device=kept_BHQT.device)
    blocks = blocks.scatter(-1, kept_BHQT.long(), True)
    rows = blocks.repeat_interleave(block_q, dim=2)[:, :, :length]
    return rows.repeat_interleave(block_k, dim=3)[..., :length]


def _sparse_softmax(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, allowed_BHLL: Tensor) -> Tensor:
    scores = (q_BHLD @ k_BHLD.mT) * q_BHLD.shape[-1] ** -0.5
    weights: Tensor = scores.masked_fill(~allowed_BHLL, -torch.inf).softmax(-1)
    return weights @ v_BHLD


def _linear_attention(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
    """o_l = φ(q) (φ(k)ᵀ v) / (ε + φ(q) Σφ(k)), where φ is the softmax over D."""
    phi_q, phi_k = q_BHLD.softmax(-1), k_BHLD.softmax(-1)
    weight_sum = phi_q @ phi_k.sum(2).unsqueeze(-1)
    out: Tensor = (phi_q @ (phi_k.mT @ v_BHLD)) / (EPSILON + weight_sum)
    return out
