"""Sparse-linear attention by chunked gathers, in plain PyTorch: fast on a CPU, right on any device.

The kept blocks of keys and values of a few query blocks are gathered side by side, and each query block attends to
its own row of them. A few at a time stay in the cache; all at once is 2 to 3 times slower. A ragged last block costs
no mask: it is always the last of a row, so rows that hold it are taken together and cut at its true end.

Shapes: B batch, L tokens, H heads, D head size; Q blocks of queries, K blocks of keys, T blocks kept; N = B·H,
R = B·H·Q rows; S tokens of a block of queries, G tokens gathered for a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.sparse_linear_attention.blocks import num_blocks_of
from homereel.kernels.sparse_linear_attention.linear import add_linear_branch

# Query blocks at a time: as many as gather so many bytes of keys and values, but not fewer than make a call worth it.
CHUNK_BYTES = 4 * 2**20
CHUNK = 16
# Heads of the linear branch at a time: so many bytes of each of q, k and v, or one head if it has more.
TOGETHER_BYTES = 2**20


@dataclass(frozen=True)
class Rows:
    """Queries in blocks, keys and values as rows of a table of blocks, and each row's places in that table."""

    q_RSD: Tensor
    k_table: Tensor  # (B·H·K, block_k·D); beyond the last token zeros
    v_table: Tensor
    places_RT: Tensor
    length: int
    block_k: int

    def chunks(self) -> Iterator[tuple[Tensor, int]]:
        """Indices of a few rows, and how many of their gathered tokens are real."""
        ragged = self._ragged()
        for group, tokens in ((~ragged, self._width), (ragged, self._width - self._padding)):
            for rows in group.nonzero().squeeze(1).split(self._at_once):
                if len(rows):
                    yield rows, tokens

    def stretches(self) -> Iterator[tuple[slice | Tensor, int]]:
        """The same for results that may be written twice: all rows in stretches, and then the ragged ones anew."""
        for start in range(0, len(self.q_RSD), self._at_once):
            yield slice(start, start + self._at_once), self._width
        if self._padding:
            for rows in self._ragged().nonzero().squeeze(1).split(self._at_once):
                if len(rows):
                    yield rows, self._width - self._padding

    def gather(self, table: Tensor, rows: slice | Tensor) -> Tensor:
        """The kept blocks of these rows, side by side: (rows, G, D)."""
        places = self.places_RT[rows]
        return table.index_select(0, places.flatten()).view(len(places), -1, self.q_RSD.shape[-1])

    def _ragged(self) -> Tensor:
        num_blocks = num_blocks_of(self.length, block=self.block_k)
        return self.places_RT[:, -1] % num_blocks == num_blocks - 1

    @property
    def _padding(self) -> int:
        return -self.length % self.block_k

    @property
    def _width(self) -> int:
        return self.places_RT.shape[1] * self.block_k

    @property
    def _at_once(self) -> int:
        row_bytes = 2 * self._width * self.q_RSD.shape[-1] * self.q_RSD.element_size()
        return max(CHUNK, CHUNK_BYTES // row_bytes)


def attend(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    kept_BHQT: Tensor,
    *,
    block_q: int,
    block_k: int,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """o_s + proj(o_l), or o_s alone without a weight, (B, L, H, D): all that is needed where nothing is learnt."""
    batch, length = q_BLHD.shape[:2]
    table = make_rows(q_BLHD, k_BLHD, v_BLHD, kept_BHQT, block_q=block_q, block_k=block_k)
    out_RSD = torch.empty_like(table.q_RSD)
    bias = None if bias is None else bias.to(out_RSD.dtype)
    for rows, tokens in table.stretches():
        q, k, v = table.q_RSD[rows], table.gather(table.k_table, rows), table.gather(table.v_table, rows)
        attended = _attended(q, k[:, :tokens], v[:, :tokens])
        out_RSD[rows] = attended if bias is None else attended.add_(bias)
    if weight is not None:
        _add_to_blocks(out_RSD, table, num_heads=batch * q_BLHD.shape[2], weight=weight)
    return to_tokens(out_RSD, batch=batch, length=length)


def _attended(q_RSD: Tensor, k_RGD: Tensor, v_RGD: Tensor) -> Tensor:
    """Attention of each row. In float32 on a CPU, so short rows are faster as two products of matrices."""
    if q_RSD.dtype != torch.float32 or q_RSD.device.type != "cpu":
        return F.scaled_dot_product_attention(q_RSD.unsqueeze(1), k_RGD.unsqueeze(1), v_RGD.unsqueeze(1)).squeeze(1)
    scores_RSG = torch.bmm(q_RSD, k_RGD.mT).mul_(q_RSD.shape[-1] ** -0.5)
    return torch.bmm(scores_RSG.softmax(-1), v_RGD)


def _add_to_blocks(out_RSD: Tensor, table: Rows, *, num_heads: int, weight: Tensor) -> None:
    """Add proj(o_l) but for its bias, in place, some heads at a time; a projection that is still zero costs nothing."""
    if not weight.any():
        return
    size = out_RSD.shape[-1]
    heads = (x.view(num_heads, -1, size) for x in (out_RSD, table.q_RSD, table.k_table, table.v_table))
    at_once = max(1, TOGETHER_BYTES // (table.length * size * out_RSD.element_size()))
    for out, q, k, v in zip(*(x.split(at_once) for x in heads), strict=True):
        add_linear_branch(out, q, k, v, weight_ED=weight, num_keys=table.length)


def forward(
    q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, kept_BHQT: Tensor, *, block_q: int, block_k: int
) -> tuple[Tensor, Tensor]:
    """The sparse part (B, L, H, D) and the log-sum-exp of its scores (B, H, L), which gradients need."""
    batch, length, heads, size = q_BLHD.shape
    table = make_rows(q_BLHD, k_BLHD, v_BLHD, kept_BHQT, block_q=block_q, block_k=block_k)
    out_RSD = torch.empty_like(table.q_RSD)
    lse_RS = out_RSD.new_empty(out_RSD.shape[:2], dtype=accumulator(q_BLHD.dtype))
    for rows, tokens in table.chunks():
        q, k, v = table.q_RSD[rows], table.gather(table.k_table, rows), table.gather(table.v_table, rows)
        k, v = k[:, :tokens], v[:, :tokens]
        scores_RSG = (q @ k.mT).to(lse_RS.dtype) * size**-0.5
        lse_RS[rows] = scores_RSG.logsumexp(-1)
        attended = (scores_RSG - lse_RS[rows].unsqueeze(-1)).exp().to(v.dtype) @ v
        out_RSD.index_copy_(0, rows, attended)
    lse = lse_RS.view(batch, heads, -1)[:, :, :length].contiguous()
    return to_tokens(out_RSD, batch=batch, length=length), lse


def with_linear_branch(
    out_BLHD: Tensor, q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, *, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """out + proj(o_l) in new memory, a head at a time; what is learnt from must stay as it was."""
    total_BLHD = out_BLHD.clone() if bias is None else out_BLHD + bias.to(out_BLHD.dtype)
    if weight.any():
        for head in range(q_BLHD.shape[2]):
            add_linear_branch(*(x[:, :, head] for x in (total_BLHD, q_BLHD, k_BLHD, v_BLHD)), weight_ED=weight)
    return total_BLHD


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
    """Gradients of q, k and v through the sparse part, in the accumulator's dtype."""
    batch, length, _, size = q_BLHD.shape
    dtype, scale = accumulator(q_BLHD.dtype), size**-0.5
    table = make_rows(q_BLHD, k_BLHD, v_BLHD, kept_BHQT, block_q=block_q, block_k=block_k)
    grad_RSD = to_blocks(grad_BLHD.to(dtype), block=block_q)
    delta_RS = (grad_RSD * to_blocks(sparse_BLHD.to(dtype), block=block_q)).sum(-1)
    lse_RS = F.pad(lse_BHL, (0, -length % block_q)).reshape(-1, block_q)
    gather, grad_q = table.gather, torch.empty_like(grad_RSD)
    grad_k, grad_v = (torch.zeros_like(x, dtype=dtype) for x in (table.k_table, table.v_table))
    for rows, tokens in table.chunks():
        q, k, v = (x.to(dtype) for x in (table.q_RSD[rows], gather(table.k_table, rows), gather(table.v_table, rows)))
        p_RSG = (q @ k.mT * scale - lse_RS[rows].unsqueeze(-1)).exp()
        p_RSG[..., tokens:] = 0
        ds_RSG = p_RSG * (grad_RSD[rows] @ v.mT - delta_RS[rows].unsqueeze(-1)) * scale
        places = table.places_RT[rows].flatten()
        grad_q.index_copy_(0, rows, ds_RSG @ k)
        grad_k.index_add_(0, places, (ds_RSG.mT @ q).view(len(places), -1))
        grad_v.index_add_(0, places, (p_RSG.mT @ grad_RSD[rows]).view(len(places), -1))
    blocks_k, blocks_v = (x.view(len(x), block_k, size) for x in (grad_k, grad_v))
    return (
        to_tokens(grad_q, batch=batch, length=length),
        to_tokens(blocks_k, batch=batch, length=length),
        to_tokens(blocks_v, batch=batch, length=length),
    )


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def make_rows(q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, kept_BHQT: Tensor, *, block_q: int, block_k: int) -> Rows:
    batch, length, heads, _ = q_BLHD.shape
    first_N = torch.arange(batch * heads, device=q_BLHD.device) * num_blocks_of(length, block=block_k)
    places = kept_BHQT.flatten(0, 1) + first_N.view(-1, 1, 1)
    k_table, v_table = (to_blocks(x, block=block_k).flatten(1) for x in (k_BLHD, v_BLHD))
    return Rows(to_blocks(q_BLHD, block=block_q), k_table, v_table, places.flatten(0, 1), length, block_k)


def to_blocks(x_BLHD: Tensor, *, block: int) -> Tensor:
    """(B, L, H, D) to (B·H·blocks, block, D), the last block filled up with zeros."""
    batch, length, heads, size = x_BLHD.shape
    x_BHLD = x_BLHD.new_empty(batch, heads, num_blocks_of(length, block=block) * block, size)
    x_BHLD[:, :, :length] = x_BLHD.transpose(1, 2)
    x_BHLD[:, :, length:] = 0
    return x_BHLD.view(-1, block, size)


def to_tokens(x: Tensor, *, batch: int, length: int) -> Tensor:
    """(B·H·blocks, block, D) back to (B, L, H, D), contiguous."""
    num_blocks = num_blocks_of(length, block=x.shape[1])
    x_BHLD = x.view(batch, -1, num_blocks * x.shape[1], x.shape[2])
    return x_BHLD[:, :, :length].transpose(1, 2).contiguous()
