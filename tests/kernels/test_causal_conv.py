"""A causal convolution fed piece by piece, against one over the whole clip, and Winograd's way against exact sums.

Tolerances in shares of the largest output: float32 sums in another order, and Winograd's sums and differences before
them, stay below 4e-6 (a textbook F(4, 3) would lose three times as much); bfloat16 keeps 8 bits.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from homereel.kernels.causal_conv import CausalConv, empty_clip, filtering, in_layout, reference
from homereel.kernels.causal_conv.winograd import ROWS_FROM, WinogradConv

TOLERANCES = {torch.float32: 4e-6, torch.bfloat16: 2**-7}
CUBE = (3, 3, 3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(num_in: int, num_out: int, kernel: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weight and bias."""
    return random(num_out, num_in, *kernel, seed=1) / (27 * num_in) ** 0.5, random(num_out, seed=2)


def exact(x_BCTHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In float64, zeros before the first frame."""
    past = torch.zeros(*x_BCTHW.shape[:2], weight.shape[2] - 1, *x_BCTHW.shape[3:], dtype=torch.float64)
    padded = torch.cat([past, x_BCTHW.double()], dim=2)
    return reference(padded, weight.double(), None if bias is None else bias.double())


def in_pieces(conv: CausalConv, x_BCTHW: Tensor, lengths: list[int]) -> Tensor:
    return torch.cat([conv(in_layout(piece)) for piece in x_BCTHW.split(lengths, dim=2)], dim=2)


def error(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(
    ("channels", "size"),
    [((3, 5), (7, 9)), ((1, 1), (1, 1)), ((16, 7), (2, 13)), ((96, 97), (4, 5)), ((97, 96), (5, 4)), ((8, 8), (1, 6))],
    ids=str,
)
@pytest.mark.parametrize("lengths", [[1, 4, 8], [1, 2, 6], [1, 1, 3], [12], [5, 4]], ids=str)
def test_pieces_join_to_the_whole(channels: tuple[int, int], size: tuple[int, int], lengths: list[int]) -> None:
    """Also where rows are paired, and where a piece does not divide into groups."""
    weight, bias = layer(*channels, CUBE)
    x = random(1, channels[0], sum(lengths), *size)
    assert error(in_pieces(CausalConv(weight, bias), x, lengths), exact(x, weight, bias)) < TOLERANCES[torch.float32]


@pytest.mark.parametrize("kernel", [(3, 1, 1), (1, 1, 1), (1, 3, 3), CUBE], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_kernels_of_any_size_and_type_without_a_bias(kernel: tuple[int, ...], dtype: torch.dtype) -> None:
    weight, _ = layer(6, 5, kernel)
    weight, x = weight.to(dtype), random(1, 6, 7, 5, 3).to(dtype)
    found = in_pieces(CausalConv(weight, None), x, [1, 4, 2])
    assert found.dtype == dtype
    assert error(found, exact(x, weight, None)) < TOLERANCES[dtype]


def test_what_is_convolved_may_be_made_in_place() -> None:
    weight, bias = layer(4, 4, CUBE)
    x = random(1, 4, 4, 5, 6)
    found = CausalConv(weight, bias)(in_layout(x), fill=lambda x, room: torch.mul(x, 2, out=room))
    assert error(found, exact(2 * x, weight, bias)) < TOLERANCES[torch.float32]


@pytest.mark.parametrize("num_frames", [2, 4])
@pytest.mark.parametrize("channels", [8, ROWS_FROM])
def test_fewer_multiplications_cost_few_bits(channels: int, num_frames: int) -> None:
    """Inputs with an offset, which differences must not lose: errors are at most six times those of plain float32."""
    weight, bias = layer(channels, channels, CUBE)
    x = random(1, channels, num_frames, 16, 12) + 3
    padded = in_layout(torch.cat([torch.zeros(1, channels, 2, 16, 12), x], dim=2))
    out = empty_clip(x, x.shape)
    WinogradConv(weight, bias)(padded[0].permute(1, 2, 3, 0), out=out[0].permute(1, 2, 3, 0))
    wanted = exact(x, weight, bias)
    assert error(out, wanted) < max(6 * error(reference(padded, weight, bias), wanted), 1e-6)


@pytest.mark.parametrize("size", filtering.SIZES)
@pytest.mark.parametrize("dim", [0, 1])
def test_filtering_is_exact_but_for_rounding(size: int, dim: int) -> None:
    """Numbers in float64: what is left is no error of the method."""
    taps = random(3, seed=3).double()
    x = random(3 * size + 2, 5) if dim == 0 else random(5, 3 * size + 2)
    x = x.double()
    sums = filtering.spread_weight(taps, size=size, dim=0)
    products = [part * weight for part, weight in zip(filtering.spread(x, size=size, dim=dim), sums, strict=True)]
    out = torch.empty_like(x.narrow(dim, 0, 3 * size))
    filtering.gather(products, out=out, size=size, dim=dim)
    wanted = sum(taps[index] * x.narrow(dim, index, 3 * size) for index in range(3))
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-13)
