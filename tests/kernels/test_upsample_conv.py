"""A convolution of a doubled picture without the doubled picture, against one with it.

Tolerances in shares of the largest output: float32 sums in another order; bfloat16 keeps 8 bits, also of the summed
taps.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from homereel.kernels.upsample_conv import UpsampleConv, reference

TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 2**-6}
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 3, 5, 7, 9),
    (3, 16, 4, 1, 6),
    (1, 5, 33, 8, 1),
]  # pictures, channels in, out, rows, columns


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_it_is_the_convolution_of_the_doubled_picture(
    dtype: torch.dtype, shape: tuple[int, ...], has_bias: bool, layout: torch.memory_format
) -> None:
    count, num_in, num_out, rows, columns = shape
    x = random(count, num_in, rows, columns).to(dtype).contiguous(memory_format=layout)
    weight = (random(num_out, num_in, 3, 3, seed=1) / (9 * num_in) ** 0.5).to(dtype)
    bias = random(num_out, seed=2).to(dtype) if has_bias else None
    wanted = reference(x.double(), weight.double(), None if bias is None else bias.double())
    out = torch.full((count, num_out, 2 * rows, 2 * columns), torch.nan, dtype=dtype)
    UpsampleConv(weight, bias)(x, out=out)
    assert float((out.double() - wanted).abs().max() / wanted.abs().max()) < TOLERANCES[dtype]
