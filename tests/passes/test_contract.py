"""One contract for every pass on every layout of blocks: undo, a neutral setting that does nothing, a plain refusal."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Pass
from homereel.passes import PASSES, apply_passes, parse_passes, worst_exactness
from homereel.passes.technique import Technique
from tests.passes.conftest import MACHINE, MODELS, FirstCall

fused_norm: Any = importlib.import_module("homereel.kernels.fused_norm.support")
int8_linear: Any = importlib.import_module("homereel.kernels.int8_linear.support")

# Each with the setting at which it does the same as nothing, if it has one, and how far that may be off: 0 is the same
# bits. Fused norms round once where the blocks round twice; flows here are of the order of 1, in float32.
CHANGING = {
    "sparse_attention": "sparse_attention:0.3:first_layers=0:first_steps=0",
    "fused_norms": "fused_norms",
    "int8": "int8",
    "int8_block": "int8_block",
    "fp8": "fp8",
    "step_cache": "step_cache:first_block:threshold=9:warm_up=0",
    "step_cache:mag": "step_cache:mag:threshold=9:warm_up=0:ratios=1+1+1",
    "step_cache:taylor": "step_cache:taylor:interval=3:warm_up=0",
}
NEUTRAL = {
    "sparse_attention": ("sparse_attention:1:first_layers=0:first_steps=0", 0.0),
    "fused_norms": ("fused_norms", 2e-5),
    "step_cache": ("step_cache:first_block:threshold=0:warm_up=0", 0.0),
    "step_cache:mag": ("step_cache:mag:threshold=0:warm_up=0:ratios=1+1+1", 0.0),
    "step_cache:taylor": ("step_cache:taylor:interval=1:warm_up=0", 0.0),
}
REFUSED = {
    ("sparse_attention", "hunyuan"): "use step_cache",
}
PAIRS = [(name, model) for name in CHANGING for model in MODELS if (name, model) not in REFUSED]


def chosen(spec: str) -> Pass:
    (found,) = parse_passes(spec)
    return found


def flows(call: Any, network: Any, *, steps: int = 3) -> list[torch.Tensor]:
    """Steps of a clip, of which the third is what a pass with memory may tell."""
    return [call.flow(network, step=step, shifted=step / 50) for step in range(steps)]


def same(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def test_no_pass_is_left_out_here() -> None:
    """compile is tested on its own, because it takes minutes."""
    assert {name.split(":")[0] for name in CHANGING} == set(PASSES) - {"compile"}


@pytest.mark.parametrize(("name", "model"), PAIRS)
def test_it_changes_something_and_undo_restores_every_bit(name: str, model: str, first_call: FirstCall) -> None:
    call, each = first_call(model, long=name == "sparse_attention"), chosen(CHANGING[name])
    each.check(call.family, MACHINE)
    network = call.load()
    before, keys = flows(call, network), list(network.state_dict())
    attributes = [set(vars(module)) for module in network.modules()]
    undo = each.apply(network, call.family)
    each.start(network)
    assert not same(flows(call, network), before)
    undo()
    assert same(flows(call, network), before)
    assert list(network.state_dict()) == keys
    assert [set(vars(module)) for module in network.modules()] == attributes
    undo()  # a second time does nothing
    assert torch.equal(call.flow(network), before[0])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NEUTRAL)
def test_its_neutral_setting_is_the_baseline(name: str, model: str, first_call: FirstCall) -> None:
    if (name, model) in REFUSED:
        return
    spec, tolerance = NEUTRAL[name]
    call = first_call(model)
    network = call.load()
    before = flows(call, network)
    chosen(spec).apply(network, call.family)
    for one, other in zip(flows(call, network), before, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("name", "model"), REFUSED)
def test_what_it_cannot_do_it_refuses_with_what_can(name: str, model: str, first_call: FirstCall) -> None:
    family = first_call(model).family
    with pytest.raises(UnsupportedPass, match=REFUSED[name, model]) as refused:
        chosen(name).check(family, MACHINE)
    assert str(refused.value).startswith(name)
    assert family.model in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "capability", "message"),
    [
        ("int8", (7, 5), "int8: .*8.0, this GPU has 7.5.*; .* can use sparse_attention or step_cache instead"),
        ("fp8", (8, 6), "fp8: .*8.9, this GPU has 8.6.*; .* can use int8 instead"),
        ("fused_norms", (7, 5), "fused_norms: .*8.0, this GPU has 7.5; compile fuses"),
        ("sparse_attention", (7, 5), "sparse_attention: .*8.0.*7.5.*use step_cache instead"),
        ("sparse_attention", (9, 0), "sparse_attention: .* heads of 64 and 128, not 12.*use step_cache instead"),
    ],
)
def test_a_gpu_without_its_kernel_is_refused(
    name: str, capability: tuple[int, int], message: str, first_call: FirstCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kernel in (fused_norm, int8_linear):
        kernel._device_support.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    family, gpu = first_call("wan").family, replace(MACHINE, device="cuda", bf16_fast=True)
    with pytest.raises(UnsupportedPass, match=message):
        chosen(name).check(family, gpu)
    for kernel in (fused_norm, int8_linear):
        kernel._device_support.cache_clear()


class Failing(Technique):
    name: ClassVar[str] = "failing"

    def check(self, family: Any, machine: Machine) -> None:
        pass

    def apply(self, component: Any, family: Any) -> Callable[[], None]:
        raise UnsupportedPass("failing: it always does; leave it out")


@pytest.mark.parametrize("model", ["wan", "vace", "ltx"])
def test_nothing_is_left_half_applied(model: str, first_call: FirstCall) -> None:
    call = first_call(model)
    network = call.load()
    before, keys = flows(call, network, steps=1), list(network.state_dict())
    names = [name for name in CHANGING if (name, model) not in REFUSED and name not in ("int8_block", "fp8")]
    several = [chosen(CHANGING[name]) for name in names if ":" not in name]
    undo = apply_passes(network, call.family, several)
    assert not same(flows(call, network, steps=1), before)
    undo()
    assert same(flows(call, network, steps=1), before)
    with pytest.raises(UnsupportedPass, match="failing"):
        apply_passes(network, call.family, [*several, Failing()])
    assert same(flows(call, network, steps=1), before)
    assert list(network.state_dict()) == keys


@pytest.mark.parametrize("name", ["sparse_attention", "fused_norms", "int8", "step_cache", "compile"])
def test_blocks_that_are_not_as_told_are_left_alone(name: str, first_call: FirstCall) -> None:
    call = first_call("wan")
    network = call.load()
    before = call.flow(network)
    network.blocks.append(torch.nn.Linear(1, 1))
    with pytest.raises(UnsupportedPass, match=f"{name}: .*2|{name}: .*3 blocks"):
        chosen(name).apply(network, call.family)
    del network.blocks[-1]
    network.blocks[1].attn1 = torch.nn.Identity()
    if name in ("sparse_attention", "fused_norms"):
        with pytest.raises((UnsupportedPass, AttributeError)):
            chosen(name).apply(network, call.family)
    network.blocks[1] = call.load().blocks[1]
    assert torch.equal(call.flow(network), before)


def test_the_worst_class_counts() -> None:
    assert worst_exactness(()) == "exact"
    assert worst_exactness(parse_passes("fused_norms")) == "exact"
    assert worst_exactness(parse_passes("int8,fused_norms")) == "approximate"
