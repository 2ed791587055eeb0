"""Winograd's minimal filtering F(n, 3) along one dimension: n outputs of a kernel with three taps by n + 2 products.

Each product is one of `spread` (sums of inputs) times one of `spread_weight` (sums of taps); `gather` makes outputs of
products. F(2, 3) evaluates polynomials at 0, 1, -1 and infinity, F(4, 3) also at two points that are chosen for small
rounding errors: three times smaller than with the 2 and -2 of the textbooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SIZES = (2, 4)
"""How many outputs are made together."""

POINT = 0.625  # and its negative; a number that binary fractions hold, with its powers


def spread_weight(weight: Tensor, *, size: int, dim: int, keep: bool = False) -> Tensor:
    """(size + 2, ...): sums of the three taps along a dimension, which is gone, or of length 1 if it is kept."""
    taps = weight.new_tensor(_taps(size), dtype=torch.float64)
    sums: Tensor = torch.tensordot(taps, weight.double().movedim(dim, 0), dims=1).to(weight.dtype)
    return sums.unsqueeze(dim + 1) if keep else sums


def spread(x: Tensor, *, size: int, dim: int, out: Tensor | None = None) -> Tensor:
    """(size + 2, ...): sums of neighbours for each group of outputs along a dimension of `x`, which is two longer than
    the outputs are.
    """
    count = (x.shape[dim] - 2) // size
    d = [_every(x, size, start=start, count=count, dim=dim) for start in range(size + 2)]
    parts = x.new_empty(size + 2, *d[0].shape) if out is None else out
    if size == 2:
        torch.sub(d[0], d[2], out=parts[0])
        torch.add(d[1], d[2], out=parts[1])
        torch.sub(d[2], d[1], out=parts[2])
        torch.sub(d[1], d[3], out=parts[3])
        return parts
    a, b, c = d[4] - d[2], d[3] - d[1], d[0] - d[2]
    torch.add(a, c, alpha=POINT**2, out=parts[0])
    torch.sub(d[5] - d[3], b, alpha=POINT**2, out=parts[5])
    torch.add(a, b, alpha=POINT, out=parts[3])
    torch.sub(a, b, alpha=POINT, out=parts[4])
    a.add_(d[2], alpha=1 - POINT**2)
    b.add_(d[1], alpha=1 - POINT**2)
    torch.add(a, b, out=parts[1])
    torch.sub(a, b, out=parts[2])
    return parts


def gather(products: Sequence[Tensor] | Tensor, *, out: Tensor, size: int, dim: int) -> None:
    """Fill `out` from the products, which are used up."""
    count = out.shape[dim] // size
    y = [_every(out, size, start=start, count=count, dim=dim) for start in range(size)]
    m = list(products)
    if size == 2:
        torch.add(m[0].add_(m[1]), m[2], out=y[0])
        torch.sub(m[1].sub_(m[2]), m[3], out=y[1])
        return
    near, far = m[1] - m[2], m[3] - m[4]
    m[1].add_(m[2])
    m[3].add_(m[4])
    torch.add(m[0].add_(m[1]), m[3], out=y[0])
    torch.add(near, far, alpha=POINT, out=y[1])
    torch.add(m[1], m[3], alpha=POINT**2, out=y[2])
    torch.add(m[5].add_(near), far, alpha=POINT**3, out=y[3])


def _every(x: Tensor, size: int, *, start: int, count: int, dim: int) -> Tensor:
    """Every so many-th place of a dimension, from `start` on."""
    stop = start + (count - 1) * size + 1
    return x[(slice(None),) * dim + (slice(start, stop, size),)]


def _taps(size: int) -> list[list[float]]:
    """Of each product, its share of the kernel's three taps."""
    if size == 2:
        return [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    points = (0.0, 1.0, -1.0, POINT, -POINT)
    rows = []
    for point in points:
        others = math.prod(point - other for other in points if other != point)
        rows.append([1 / others, point / others, point**2 / others])
    return [*rows, [0, 0, 1]]
