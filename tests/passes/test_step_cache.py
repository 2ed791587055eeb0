"""A step cache leaves out blocks that it says it leaves out, tells what it should, and forgets between clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from homereel.core.errors import UnsupportedPass
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.models.residual_ratios import residual_ratios
from homereel.passes.cache_rules import Magnitudes, Memory, remember, told
from homereel.passes.step_cache import StepCache
from tests.passes.conftest import MACHINE, MODELS, FirstCall, wish

# How often a step calls the transformer: LTX-2 2.3 compares four passes if it has enough blocks, three with these two.
NUM_PASSES = dict.fromkeys(MODELS, 2) | {"ltx": 3}


@contextmanager
def counted(blocks: Any) -> Iterator[list[int]]:
    """How often each block really computes: its feed-forward is asked, which a hook on the block cannot hide."""
    calls = [0] * len(blocks)

    def count(index: int) -> Callable[..., None]:
        def seen(*_: Any) -> None:
            calls[index] += 1

        return seen

    parts = [getattr(block, "ffn", None) or block.ff for block in blocks]
    hooks = [part.register_forward_hook(count(index)) for index, part in enumerate(parts)]
    yield calls
    for hook in hooks:
        hook.remove()


# Of four steps, in how many the first block computes, and in how many the rest. Half of the clip's three is two.
LEFT_OUT = [
    (StepCache(threshold=0, warm_up=0), 4, 4),
    (StepCache(threshold=1e9, warm_up=0, max_skips=9), 4, 1),
    (StepCache(threshold=1e9, warm_up=0, max_skips=2), 4, 2),
    (StepCache(threshold=1e9, warm_up=0.5, max_skips=9), 4, 2),
    (StepCache(method="mag", threshold=0, warm_up=0, ratios=(1.0,)), 4, 4),
    (StepCache(method="mag", threshold=1e9, warm_up=0, max_skips=9, ratios=(1.0,)), 1, 1),
    (StepCache(method="taylor", interval=1, warm_up=0), 4, 4),
    (StepCache(method="taylor", interval=9, warm_up=0, order=0), 1, 1),
    (StepCache(method="taylor", interval=9, warm_up=0, order=1), 2, 2),
]


@pytest.mark.parametrize("model", MODELS)
def test_blocks_are_left_out_as_often_as_it_says(model: str, first_call: FirstCall) -> None:
    """In every pass of guidance alike. The rules know nothing of models, so one of each kind does for most."""
    call = first_call(model)
    network = call.load()
    assert call.family.stages(call.plan)[0].num_steps == 3
    for cache, first, others in LEFT_OUT if model == "wan" else (LEFT_OUT[1], LEFT_OUT[5], LEFT_OUT[8]):
        undo = cache.apply(network, call.family)
        with counted(call.family.blocks(network)) as calls:
            for step in range(4):
                call.flow(network, step=step, shifted=step / 50)
        undo()
        expected = [first] + [others] * (len(calls) - 1)
        assert calls == [NUM_PASSES[model] * times for times in expected], cache.spec


@pytest.mark.parametrize("model", MODELS)
def test_a_step_that_is_left_out_is_close_where_nothing_changed(model: str, first_call: FirstCall) -> None:
    """Asked the same again, the sum of a block's input and what was remembered of it is the same but for rounding.

    Had hints been added twice, or a stream been left out, it would be off by as much as flows are: about 1.
    """
    call = first_call(model)
    network = call.load()
    expected = call.flow(network, step=0)
    for cache in (StepCache(threshold=9, warm_up=0), StepCache(method="mag", threshold=9, warm_up=0, ratios=(1.0,))):
        undo = cache.apply(network, call.family)
        torch.testing.assert_close(call.flow(network, step=0), expected, atol=0, rtol=0)
        with counted(call.family.blocks(network)) as calls:
            told_again = call.flow(network, step=1)
        assert calls[1] == 0
        undo()
        plain = call.flow(network, step=1)
        torch.testing.assert_close(told_again, plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", ["wan", "skyreels", "hunyuan"])
@pytest.mark.parametrize("spec", ["step_cache:first_block:9:warm_up=0", "step_cache:taylor:interval=2:warm_up=0"])
def test_two_clips_of_one_session_are_the_same_and_differ_from_the_whole_one(
    model: str, spec: str, folders: Callable[[str], Path]
) -> None:
    """SkyReels-V2 also goes through several windows, each a run of its own."""
    size = {"num_frames": 41, "steps": 4} if model == "skyreels" else {"steps": 4}
    size |= {"width": 48, "height": 64} if model == "hunyuan" else {}
    request = wish(folders(model), **size)
    with Session() as session:
        plain = generate(request, session=session)
        first = generate(request.replace(passes=spec), session=session)
        other = generate(request.replace(passes=spec, seed=8), session=session)
        again = generate(request.replace(passes=spec), session=session)
        assert generate(request, session=session).frames_sha256 == plain.frames_sha256
    assert first.frames_sha256 == again.frames_sha256
    assert len({plain.frames_sha256, first.frames_sha256, other.frames_sha256}) == 3


def test_mag_needs_a_measurement(first_call: FirstCall) -> None:
    with pytest.raises(UnsupportedPass, match=r"mag was not measured on .*; use step_cache:first_block"):
        StepCache(method="mag").check(first_call("wan").family, MACHINE)
    StepCache(method="mag", ratios=(1.0, 0.9)).check(first_call("wan").family, MACHINE)
    assert len(residual_ratios("wan2.1-t2v-1.3b")) == 50
    assert residual_ratios("wan2.1-t2v-1.3b")[0] == 1
    assert residual_ratios("pocket") == ()


def test_mag_adds_up_what_the_ratios_say() -> None:
    """0.9, then 0.81, are 0.1 and 0.29 off: the second is over 0.2, so it is computed and the count starts anew."""
    rule = Magnitudes(ratios=(1.0, 0.9, 0.9, 0.9, 0.9), threshold=0.2, max_skips=9, warm_up=0)
    memory = Memory(rests=[(torch.zeros(1),)])
    assert [rule.skips(memory, step=step, num_steps=5, added=None) for step in range(1, 5)] == [
        True,
        False,
        True,
        False,
    ]
    assert rule.ratio_at(0, num_steps=50) == 1.0
    assert rule.ratio_at(49, num_steps=50) == 0.9
    assert rule.ratio_at(9, num_steps=1) == 0.9


@pytest.mark.parametrize("order", [0, 1, 2])
def test_taylor_foretells_what_is_a_line_or_a_curve_in_time(order: int) -> None:
    """Computed at steps 0, 1, 2 and told at 4: exactly the polynomial for a line, the newest for a constant.

    A second difference is that of backward steps, so a parabola is off by a known bit: x² at 4 from 0, 1, 4 is
    4 + 2*3 + 2²/2 * 2 = 14, and a line gives 10.
    """
    memory = Memory()
    for step in range(3):
        remember(memory, (torch.tensor([float(step), float(step**2)]),), step=step, order=order)
    line, parabola = told(memory, step=4)[0].tolist()
    assert line == pytest.approx([2.0, 4.0, 4.0][order])
    assert parabola == pytest.approx([4.0, 10.0, 14.0][order])
    assert math.isfinite(line)


def test_a_run_after_another_begins_anew(first_call: FirstCall) -> None:
    """As windows of a long film do, without anybody saying so; a clip that starts forgets even in the middle."""
    call = first_call("wan")
    network, cache = call.load(), StepCache(threshold=1e9, warm_up=0, max_skips=9)
    cache.apply(network, call.family)
    runs = [[call.flow(network, step=step, shifted=step / 50) for step in range(3)] for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)
    with counted(network.blocks) as calls:
        call.flow(network, step=3)
        assert calls == [2, 0]
        cache.start(network)
        call.flow(network, step=4)
        assert calls == [4, 2]
