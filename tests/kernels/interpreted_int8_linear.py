"""The Triton kernels of 8-bit linear layers against the reference, number for number, without a GPU.

`test_interpreter.py` runs these in a process for which the interpreter is chosen.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from homereel.kernels.int8_linear import SCHEMES, Scheme, reference
from homereel.kernels.int8_linear.tiles import Tile
from tests.kernels.slow import slow

# Tokens, inputs, outputs. 257 tokens are nine rows of tiles, one more than are worked on together.
SHAPES = [(1, 127, 130), (5, 1, 3), (5, 7, 1), (257, 33, 66), (130, 200, 3)]
SMALL = Tile(32, 32, 32, 4, 2)  # many tiles even of few numbers
FLOATS = (torch.float32, torch.float16)


def random(*shape: int) -> Tensor:
    source = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=source)


def both(shape: tuple[int, int, int], *, scheme: Scheme, tile: Tile, gelu: bool, dtype: torch.dtype) -> list[Tensor]:
    """The kernel's product and the reference's, of the same 8-bit numbers."""
    from homereel.kernels.int8_linear import triton as kernels

    num_tokens, num_inputs, num_outputs = shape
    given = (
        *reference.quantize(random(num_tokens, num_inputs), scheme=scheme),
        *reference.quantize(random(num_outputs, num_inputs), scheme=scheme),
    )
    bias_N = random(num_outputs)
    return [
        kernels.matmul(*given, bias_N=bias_N, gelu=gelu, dtype=dtype, tile=tile),
        reference.matmul(*given, bias_N=bias_N, gelu=gelu, dtype=dtype),
    ]


@pytest.mark.parametrize(
    ("scheme", "shape", "dtype"),
    [
        *((*case, torch.float32) for case in product(("int8", "int8_block"), ((1, 127), (5, 1)))),
        *(("int8", (20, 129), torch.float32), ("int8_block", (130, 129), torch.float32)),
        *((scheme, (5, 7), torch.float16) for scheme in ("int8", "int8_block")),
        ("int8", (4, 16500), torch.float32),  # in two goes
        *slow(*product(("int8", "int8_block"), ((1, 127), (5, 1), (5, 7), (130, 129), (3, 16500)), FLOATS)),
    ],
    ids=str,
)
def test_int8_numbers_and_scales_are_the_same(scheme: Scheme, shape: tuple[int, int], dtype: torch.dtype) -> None:
    from homereel.kernels.int8_linear import triton as kernels

    x_MK = random(*shape).to(dtype)
    x_MK[0] = 0
    if shape[0] > 3:
        x_MK[2, 0], x_MK[3, -1] = torch.nan, -torch.inf
    for got, wanted in zip(kernels.quantize(x_MK, scheme=scheme), reference.quantize(x_MK, scheme=scheme), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)


def test_fp8_numbers_and_scales_are_the_same() -> None:
    from homereel.kernels.int8_linear import triton as kernels

    # The interpreter's own rounding to fp8 is not a GPU's, so the numbers are such that nothing is rounded.
    x_MK = (random(5, 129) * 100).to(torch.float8_e4m3fn).float().clamp(-448, 448)
    x_MK[:, 7] = 448
    x_MK *= torch.tensor([1, 2, 0.25, 1024, 1])[:, None]
    x_MK[4, 5] = torch.nan
    for got, wanted in zip(kernels.quantize(x_MK, scheme="fp8"), reference.quantize(x_MK, scheme="fp8"), strict=True):
        torch.testing.assert_close(got.float(), wanted.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *((shape, torch.float32) for shape in SHAPES),
        (SHAPES[-1], torch.float16),
        *slow(*product((*SHAPES, (257, 129, 130)), FLOATS)),
    ],
    ids=str,
)
@pytest.mark.parametrize("scheme", ["int8", "int8_block"])
def test_int8_products_are_the_same(scheme: Scheme, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    tile = Tile(128, 128, 128, 4, 2) if scheme == "int8_block" else SMALL
    got, wanted = both(shape, scheme=scheme, tile=tile, gelu=False, dtype=dtype)
    assert torch.equal(got, wanted)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # far below 0, where the result is 0
@pytest.mark.parametrize("shape", [(40, 136, 34), *slow(((70, 200, 66),))], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_gelu_is_the_tanh_form(scheme: Scheme, shape: tuple[int, int, int]) -> None:
    tile = Tile(64, 64, 128, 4, 2) if scheme == "int8_block" else SMALL
    got, wanted = both(shape, scheme=scheme, tile=tile, gelu=True, dtype=torch.float32)
    # float32: tanh by way of exp, and for fp8 another order of sums, cost a few units in the last of 24 bits
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("shape", [(40, 208, 34), (1, 48, 130), *slow(((70, 208, 66),))], ids=str)
def test_reading_by_descriptors_gives_the_same(scheme: Scheme, shape: tuple[int, int, int]) -> None:
    tile = Tile(32, 32, 64, 4, 2, tma=True)
    got, wanted = both(shape, scheme=scheme, tile=tile, gelu=False, dtype=torch.float32)
    # int8 sums are exact; those of fp8 are added up in another order
    torch.testing.assert_close(got, wanted, rtol=0 if scheme == "int8" else 1e-5, atol=0 if scheme == "int8" else 1e-5)


def test_no_tokens_and_no_bias() -> None:
    from homereel.kernels.int8_linear import triton as kernels

    x, x_scale = kernels.quantize(torch.zeros(0, 40), scheme="int8")
    weight, scale = reference.quantize(random(6, 40), scheme="int8")
    for given in ((x, x_scale), reference.quantize(random(7, 40), scheme="int8")):
        got = kernels.matmul(*given, weight, scale, bias_N=None, gelu=False, dtype=torch.float32, tile=SMALL)
        assert torch.equal(got, reference.matmul(*given, weight, scale, bias_N=None, gelu=False, dtype=torch.float32))
