"""Which blocks of keys each block of queries looks at: the first half of sparse-linear attention (arXiv 2509.24006).

Shapes: B batch, L tokens, H heads, D head size; Q blocks of queries, K blocks of keys, T blocks kept.
"""

from __future__ import annotations

import torch
from torch import Tensor


def block_map(q_BLHD: Tensor, k_BLHD: Tensor, *, num_kept: int, block_q: int, block_k: int) -> Tensor:
    """The kept blocks of keys, ascending, (B, H, Q, T) int32: those whose mean key fits the mean query best."""
    return top_blocks(pool(q_BLHD, block=block_q), pool(k_BLHD, block=block_k), k_BLHD.shape[1], num_kept, block_k)


def num_kept_blocks(length: int, *, block_k: int, ratio: float, budget: int | None = None) -> int:
    """How many blocks of keys a block of queries keeps: `budget`, or a share of all, and never less than one."""
    num_blocks = num_blocks_of(length, block=block_k)
    wanted = torch.sym_int(ratio * num_blocks) if budget is None else budget
    kept: int = torch.sym_max(1, torch.sym_min(num_blocks, wanted))  # under torch.compile a length may be a symbol
    return kept


def num_blocks_of(length: int, *, block: int) -> int:
    return (length + block - 1) // block


def pool(x_BLHD: Tensor, *, block: int) -> Tensor:
    """Mean of each block of tokens, (B, H, blocks, D), summed in float32; a ragged last block by its true count."""
    batch, length, heads, size = x_BLHD.shape
    dtype = torch.promote_types(x_BLHD.dtype, torch.float32)
    whole = length // block
    means = x_BLHD[:, : whole * block].reshape(batch, whole, block, heads, size).sum(2, dtype=dtype) / block
    if whole * block < length:
        rest = x_BLHD[:, whole * block :].sum(1, keepdim=True, dtype=dtype) / (length - whole * block)
        means = torch.cat([means, rest], dim=1)
    return means.transpose(1, 2)


def top_blocks(q_BHQD: Tensor, k_BHKD: Tensor, length: int, num_kept: int, block_k: int) -> Tensor:
    """Scores of pooled queries and keys, and the best blocks of each row.

    The mean key of all tokens is taken off first. It adds the same to a whole row, so it changes no ranking; it
    keeps the numbers small where keys share a large offset.
    """
    k_BHKD = k_BHKD - mean_of_blocks(k_BHKD, length=length, block=block_k)
    scores_BHQK = q_BHQD @ k_BHKD.mT
    return scores_BHQK.topk(num_kept, dim=-1, sorted=False).indices.sort(dim=-1).values.int()


def mean_of_blocks(means_BHKD: Tensor, *, length: int, block: int) -> Tensor:
    """The mean over all tokens, from the means of blocks of which the last may be ragged."""
    num_blocks = means_BHKD.shape[2]
    last = length - (num_blocks - 1) * block
    total = means_BHKD.sum(2, keepdim=True) * block - means_BHKD[:, :, -1:] * (block - last)
    return total / length
