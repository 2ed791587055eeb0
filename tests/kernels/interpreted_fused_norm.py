"""The Triton kernels of fused norms against the reference, without a GPU.

`test_interpreter.py` runs these in a process for which the interpreter is chosen.
Tolerance: float32 sums in another order, a few units in the last of 24 bits, and one of fp16's 11.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from homereel.kernels.fused_norm import reference
from homereel.kernels.int8_linear import Scheme
from homereel.kernels.int8_linear import reference as int8_reference
from tests.kernels.slow import slow

FLOAT32, FLOAT16 = (torch.float32, 1e-5), (torch.float16, 2**-10)
BOTH = (True, False)
MODULATE, WEIGHTS, RMS = (True, True), (False, True), (True, False)  # whether one is added, whether it is centred


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("sizes", "group", "shared", "interleaved", "kind"),
    [
        *(((3, 12), *case, FLOAT32) for case in product(("token", "head"), (True, False), (True, False))),
        *(((5, 64), "token", True, interleaved, FLOAT16) for interleaved in (True, False)),
        *(((1, 2), "token", True, True, FLOAT32), ((1, 2), "head", False, False, FLOAT16)),
        *slow(*product(((3, 12), (1, 2), (5, 64)), ("token", "head"), BOTH, BOTH, (FLOAT32, FLOAT16))),
    ],
    ids=str,
)
def test_rms_norm_and_rope(
    sizes: tuple[int, int], group: str, shared: bool, interleaved: bool, kind: tuple[torch.dtype, float]
) -> None:
    """Heads and their size; norms over a token or a head; angles of all heads or of each."""
    from homereel.kernels.fused_norm import triton as kernels

    (heads, head_size), (dtype, tolerance) = sizes, kind
    channels = heads * head_size
    weight = random(channels if group == "token" else head_size)
    x = random(2, 5, 2 * channels).to(dtype)[..., channels:]  # a part of something wider
    angles = random(*((1, 5, 1) if shared else (2, 5, heads)), head_size // 2)
    given = (x, weight, angles.cos(), angles.sin())
    got = kernels.rms_norm_rope(*given, num_heads=heads, eps=1e-3, interleaved=interleaved)
    wanted = reference.rms_norm_rope(*given, num_heads=heads, eps=1e-3, interleaved=interleaved)
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    plain = kernels.rms_norm_rope(x, weight, None, None, num_heads=heads, eps=1e-3, interleaved=interleaved)
    wanted = reference.rms_norm_rope(x, weight, None, None, num_heads=heads, eps=1e-3, interleaved=interleaved)
    torch.testing.assert_close(plain, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("asked", "channels", "kind"),
    [
        *((MODULATE, 130, FLOAT32), (MODULATE, 130, FLOAT16), (MODULATE, 1, FLOAT32)),
        *((WEIGHTS, 48, FLOAT32), (RMS, 130, FLOAT32), (RMS, 48, FLOAT16)),
        *slow(*product((MODULATE, WEIGHTS, RMS), (1, 48, 130), (FLOAT32, FLOAT16))),
    ],
    ids=str,
)
def test_norm_and_modulation(asked: tuple[bool, bool], channels: int, kind: tuple[torch.dtype, float]) -> None:
    from homereel.kernels.fused_norm import triton as kernels

    dtype, tolerance = kind
    x = (random(2, 5, channels) + 2).to(dtype)
    wide = random(2, 6, channels)  # tables are parts of one, as in a block
    for gain, offset in ((wide[:, 1:2], wide[:, :1]), (wide[:, 1:], None), (None, wide[:1, 1:]), (None, None)):
        add_one, centre = asked
        got = kernels.norm_modulate(x, gain, offset, eps=1e-3, add_one=add_one, centre=centre)
        wanted = reference.norm_modulate(x, gain, offset, eps=1e-3, add_one=add_one, centre=centre).to(dtype)
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_norm_modulation_and_8_bits(scheme: Scheme) -> None:
    from homereel.kernels.fused_norm import triton as kernels

    x, gain, offset = random(2, 5, 130), random(2, 1, 130), random(1, 1, 130)
    x[0, 1, 7] = torch.nan
    got, scale = kernels.norm_modulate_quantize(x, gain, offset, eps=1e-3, add_one=True, centre=True, scheme=scheme)
    exact = reference.norm_modulate(x, gain, offset, eps=1e-3, add_one=True, centre=True).flatten(0, 1)
    _, wanted_scale = int8_reference.quantize(exact, scheme=scheme)
    torch.testing.assert_close(scale, wanted_scale, rtol=1e-5, atol=0, equal_nan=True)
    clean = wanted_scale.isfinite()
    assert clean.tolist() == [True, False] + [True] * 8
    if scheme == "int8":  # the interpreter's own rounding to fp8 is not a GPU's
        error = (got.float() * scale[:, None] - exact).abs()[clean]
        assert bool((error <= scale[clean, None] * 0.5001).all())  # half a step, and what sums in float32 cost


def test_nothing_in_nothing_out() -> None:
    from homereel.kernels.fused_norm import triton as kernels

    x = torch.zeros(1, 0, 48)
    weight = torch.ones(48)
    assert kernels.rms_norm_rope(x, weight, None, None, num_heads=3, eps=0, interleaved=True).shape == (1, 0, 3, 16)
    assert kernels.norm_modulate(x, None, None, eps=0, add_one=True, centre=True).shape == (1, 0, 48)
