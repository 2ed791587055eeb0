"""8-bit linear layers in plain PyTorch: close to the float layer, exact where they promise it, loud where they must be.

Tolerances: numbers of a normal distribution lose 0.7% to 1% in int8 (a step of about 1/40 of their deviation, over
the root of 12, twice) and 3.7% in e4m3, which keeps three bits of each number. 1.5e-2 and 5e-2 leave a margin
for few numbers, and fail when any scale is off by one block, token or output.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from homereel.core.errors import UnsupportedPass
from homereel.kernels import int8_linear
from homereel.kernels.int8_linear import SCHEMES, Scheme, quantize_activation, quantize_weight, quantized_linear
from homereel.kernels.int8_linear.reference import exact_int_matmul, int_matmul_by_float
from homereel.kernels.int8_linear.schemes import scale_shape

MAX_RELATIVE: dict[Scheme, float] = {"int8": 1.5e-2, "int8_block": 1.5e-2, "fp8": 5e-2}
SHAPES = [(1, 127, 130), (5, 1, 3), (5, 7, 1), (257, 129, 130), (257, 200, 3), (130, 384, 256)]  # tokens, in, out


def random_layer(num_tokens: int, num_inputs: int, num_outputs: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight and bias."""
    source = torch.Generator().manual_seed(seed)
    x_MK = torch.randn(num_tokens, num_inputs, generator=source)
    weight_NK = torch.randn(num_outputs, num_inputs, generator=source) / num_inputs**0.5
    return x_MK, weight_NK, torch.randn(num_outputs, generator=source)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_8_bit_layer_is_close_to_the_float_layer(scheme: Scheme, shape: tuple[int, int, int]) -> None:
    x_MK, weight_NK, bias_N = random_layer(*shape)
    product = x_MK.double() @ weight_NK.double().T
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    assert relative(quantized_linear(x_MK, values, scale), product) < MAX_RELATIVE[scheme]
    with_bias = quantized_linear(x_MK, values, scale, bias=bias_N).double() - bias_N
    assert relative(with_bias, product) < MAX_RELATIVE[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_leading_dimensions_and_types_are_kept(scheme: Scheme) -> None:
    x_MK, weight_NK, bias_N = random_layer(12, 40, 24)
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    flat = quantized_linear(x_MK, values, scale, bias=bias_N)
    for dtype, step in ((torch.bfloat16, 2**-8), (torch.float16, 2**-11)):  # the rounding of the result
        x = x_MK.to(dtype).view(2, 3, 2, 40)
        got = quantized_linear(x, values, scale, bias=bias_N.to(dtype))
        assert got.shape == (2, 3, 2, 24)
        assert got.dtype == dtype
        exact = quantized_linear(x.float(), values, scale, bias=bias_N.to(dtype))
        torch.testing.assert_close(got.float(), exact, rtol=step, atol=0)
    assert quantized_linear(x_MK, values, scale, dtype=torch.float16).dtype == torch.float16
    assert quantized_linear(x_MK[:0], values, scale).shape == (0, 24)
    assert flat.shape == (12, 24)


@pytest.mark.parametrize("num_inputs", [1, 129, 3000])
def test_int8_sums_are_exact_on_both_paths(num_inputs: int) -> None:
    x_MK = torch.full((19, num_inputs), 127, dtype=torch.int8)  # sums beyond what float32 holds exactly
    weight_NK = torch.randint(-128, 128, (5, num_inputs), dtype=torch.int8, generator=torch.Generator().manual_seed(1))
    wanted = x_MK.long() @ weight_NK.long().T
    assert torch.equal(exact_int_matmul(x_MK, weight_NK).long(), wanted)
    assert torch.equal(int_matmul_by_float(x_MK, weight_NK).long(), wanted)


@pytest.mark.parametrize("gelu", [False, True])
def test_a_token_and_an_output_have_a_scale_each(gelu: bool) -> None:
    x_MK, weight_NK, bias_N = random_layer(9, 50, 7)
    x_MK, weight_NK = x_MK * torch.logspace(-3, 3, 9)[:, None], weight_NK * torch.logspace(-2, 2, 7)[:, None]
    xq, (values, scale) = quantize_activation(x_MK), quantize_weight(weight_NK)
    for row in range(9):
        step = x_MK[row].abs().max() / 127
        torch.testing.assert_close(xq.scale[row], step)
        assert torch.equal(xq.values_MK[row].float(), torch.round(x_MK[row] * (127 / x_MK[row].abs().max())))
    wanted = (xq.values_MK * xq.scale[:, None]).double() @ (values * scale[:, None]).double().T + bias_N
    wanted = F.gelu(wanted, approximate="tanh") if gelu else wanted
    got = int8_linear.quantized_matmul(xq, values, scale, bias=bias_N, gelu=gelu)
    # float32 scales and sums against float64: a few units in the last of 24 bits
    torch.testing.assert_close(got.double(), wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("num_tokens", "num_inputs", "num_outputs"), [(257, 200, 130), (1, 1, 1), (128, 256, 129)])
def test_blocks_of_128_are_as_turbowan_files_have_them(num_tokens: int, num_inputs: int, num_outputs: int) -> None:
    x_MK, weight_NK, _ = random_layer(num_tokens, num_inputs, num_outputs)
    values, scale = quantize_weight(weight_NK, scheme="int8_block")
    xq = quantize_activation(x_MK, scheme="int8_block")
    assert scale.shape == (-(-num_outputs // 128), -(-num_inputs // 128))
    stored = {}
    for name, whole, q, steps in (("x", x_MK, xq.values_MK, xq.scale), ("w", weight_NK, values, scale)):
        stored[name] = torch.zeros_like(whole, dtype=torch.float64)
        for top in range(0, whole.shape[0], 128):
            for left in range(0, whole.shape[1], 128):
                part = slice(top, top + 128), slice(left, left + 128)
                step = max(float(whole[part].abs().max()), 1e-8) / 128
                assert float(steps[top // 128, left // 128]) == pytest.approx(step, rel=1e-6)
                assert (
                    int((q[part] - (whole[part] / step).round().clamp(-128, 127)).abs().max()) <= 1
                )  # a tie may differ
                stored[name][part] = q[part].double() * steps[top // 128, left // 128].double()
    got = int8_linear.quantized_matmul(xq, values, scale)
    torch.testing.assert_close(got.double(), stored["x"] @ stored["w"].T, rtol=1e-5, atol=1e-5)  # float32 sums


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tokens_of_zeros_give_the_bias(scheme: Scheme) -> None:
    _, weight_NK, bias_N = random_layer(3, 20, 6)
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    got = quantized_linear(torch.zeros(3, 20), values, scale, bias=bias_N)
    assert torch.equal(got, bias_N.expand(3, 6))
    nothing = quantize_weight(torch.zeros(6, 20), scheme=scheme)
    assert torch.equal(quantized_linear(torch.ones(3, 20), *nothing, bias=bias_N), bias_N.expand(3, 6))


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_an_outlier_of_one_token_costs_the_others_nothing(scheme: Scheme) -> None:
    x_MK, weight_NK, _ = random_layer(6, 64, 10)
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    before = quantized_linear(x_MK, values, scale)
    x_MK[2, 5] = 3e38
    after = quantized_linear(x_MK, values, scale)
    assert torch.equal(after[[0, 1, 3, 4, 5]], before[[0, 1, 3, 4, 5]])
    assert relative(after[2], x_MK[2].double() @ weight_NK.double().T) < MAX_RELATIVE[scheme]


@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_not_finite_shows(scheme: Scheme, spoilt: float) -> None:
    x_MK, weight_NK, _ = random_layer(140, 150, 10)
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    x_MK[130, 149] = spoilt
    got = quantized_linear(x_MK, values, scale)
    assert got[130].isnan().all()
    clean = 128 if scheme == "int8_block" else 130  # a block shares its scale, so its tokens share this too
    assert got[:clean].isfinite().all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_operators_say_what_shapes_they_give(scheme: Scheme) -> None:
    x_MK, weight_NK, bias_N = random_layer(5, 130, 7)
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    xq = quantize_activation(x_MK, scheme=scheme)
    # What else there is to check concerns gradients, which these have not; the first cannot compare fp8.
    checks = ("test_faketensor",) if scheme == "fp8" else ("test_schema", "test_faketensor")
    for given_x in (x_MK, x_MK.T.contiguous().T):
        torch.library.opcheck(int8_linear._quantize, (given_x, scheme), test_utils=checks)
    given = (xq.values_MK, xq.scale, values, scale, bias_N, True, torch.bfloat16)
    torch.library.opcheck(int8_linear._matmul, given, test_utils=checks)


def test_a_gradient_is_refused_and_not_lost() -> None:
    x_MK, weight_NK, _ = random_layer(3, 8, 4)
    out = quantized_linear(x_MK.requires_grad_(), *quantize_weight(weight_NK))
    with pytest.raises(RuntimeError, match=r"backward through homereel\.quantized_matmul"):
        out.sum().backward()


def test_wrong_input_is_refused_with_what_is_possible() -> None:
    with pytest.raises(UnsupportedPass, match="give float32, bfloat16 or float16"):
        quantize_activation(torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(UnsupportedPass, match="give float32, bfloat16 or float16"):
        quantize_weight(torch.zeros(2, 2, dtype=torch.int32))
    with pytest.raises(UnsupportedPass, match="choose one of int8, int8_block, fp8"):
        torch.ops.homereel.quantize_activation(torch.zeros(2, 2), "int4")
    with pytest.raises(UnsupportedPass, match="NaN or infinite"):
        quantize_weight(torch.tensor([[1.0, torch.nan]]))
    values, scale = quantize_weight(torch.ones(3, 4))
    with pytest.raises(AssertionError, match=r"\(3, 4\) weights for \(2, 5\)"):
        quantized_linear(torch.ones(2, 5), values, scale)


def test_support_names_the_reason() -> None:
    cpu = torch.device("cpu")
    assert "NVIDIA GPU" in str(int8_linear.support("int8", device=cpu))
    assert "overflow" in str(int8_linear.support("int8", device=cpu, num_inputs=140_000))
    assert int8_linear.capability_support("int8", capability=(8, 0)) is None
    assert int8_linear.capability_support("fp8", capability=(8, 9)) is None
    assert int8_linear.capability_support("fp8", capability=(8, 6)) == (
        "fp8 kernels need compute capability 8.9, this GPU has 8.6; int8 needs 8.0"
    )
    assert "need compute capability 8.0, this GPU has 7.5" in str(
        int8_linear.capability_support("int8_block", capability=(7, 5))
    )


def test_the_preferred_scheme_is_the_closest_one_that_is_fast() -> None:
    names = {capability: int8_linear.preferred_scheme(capability) for capability in ((7, 5), (8, 0), (9, 0), (10, 0))}
    assert names == {(7, 5): None, (8, 0): "int8", (9, 0): "int8", (10, 0): "fp8"}
    assert int8_linear.preferred_scheme((12, 0)) == "int8"


def test_scales_have_the_shapes_of_wan() -> None:
    assert scale_shape(13824, 5120, scheme="int8_block") == (108, 40)
    assert scale_shape(1536, 8960, scheme="int8_block") == (12, 70)
    assert scale_shape(1536, 8960, scheme="int8") == (1536,)


class Projections(nn.Module):
    """Three layers of one input, as in attention."""

    def __init__(self, scheme: Scheme, *, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.weights = [quantize_weight(random_layer(1, *sizes, seed=seed)[1], scheme=scheme) for seed in range(3)]
        self.scheme: Scheme = scheme

    def forward(self, x: Tensor) -> list[Tensor]:
        xq = quantize_activation(x, scheme=self.scheme)
        return [int8_linear.quantized_matmul(xq, *weight) for weight in self.weights]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_three_layers_share_one_quantisation_and_compile_as_one_graph(scheme: Scheme) -> None:
    three = Projections(scheme, sizes=(130, 20))
    compiled = torch.compile(three, backend="aot_eager", fullgraph=True, dynamic=True)
    for num_tokens in (5, 131):
        x = random_layer(num_tokens, 130, 1)[0][None]
        alone = [quantized_linear(x, *weight) for weight in three.weights]
        for got, wanted in zip(compiled(x), alone, strict=True):
            assert torch.equal(got, wanted)
