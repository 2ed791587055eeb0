"""Bytes and seconds follow from shapes; the fastest way that fits is found; passes are searched by their cost."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from homereel.core.errors import DoesNotFit
from homereel.core.machine import Machine, Rates
from homereel.core.plan import Plan, Residency
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.models.published import published_facts
from homereel.models.registry import find_card, model_facts
from homereel.planning import machine as machine_module
from homereel.planning.cost import DENOISERS, Workload, call_seconds, stage_bytes, stage_costs, tile_bytes
from homereel.planning.costed import run_key, with_costs
from homereel.planning.effects import effect_of
from homereel.planning.fitting import tile_overhead
from homereel.planning.ledger import Figures, Ledger
from homereel.planning.machine import free_ram_bytes, imagined_gpu, num_threads
from homereel.planning.plan import plan_clip
from homereel.planning.rates import FILE, keep_rates, kept_rates, known_rates
from homereel.planning.search import Search
from homereel.planning.words import Reader

GB = 10**9
HOST = Machine("cpu", "host", 8, 64 * GB, None, bf16_fast=False)
CARD = imagined_gpu(HOST, vram_bytes=24 * GB)
WAN = published_facts(find_card("wan2.1-t2v-14b"))


def settled(facts: ModelFacts = WAN, *, machine: Machine = CARD, size: tuple[int, int] = (832, 480)) -> Plan:
    request = Request.parse({"prompt": "a ball", "width": size[0], "height": size[1], "seed": 0})
    return plan_clip(request, model=facts, machine=machine, fresh_seed=0)


def work(plan: Plan | None = None, *, machine: Machine = CARD) -> Workload:
    return Workload.of(plan or settled(), model=WAN, machine=machine, keeps_all=False)


def test_a_forward_takes_the_arithmetic_of_the_paper() -> None:
    """Wan 14B at 720p: 1807 TFLOP of linears and 4682 of attention, as counted elsewhere; 5% for what is left out."""
    nothing = replace(known_rates(CARD), memory=1e30, call_seconds=1e-30)
    plan = settled(size=(1280, 720))
    linear = call_seconds(work(plan), rates=replace(nothing, matrix=1e12, attention=1e30))
    attention = call_seconds(work(plan), rates=replace(nothing, matrix=1e30, attention=1e12))
    assert linear == pytest.approx(1807, rel=0.05)
    assert attention == pytest.approx(4682, rel=0.05)


def test_a_decode_takes_the_arithmetic_of_the_paper() -> None:
    """275 TFLOP at 480p and 639 at 720p."""
    for size, known in (((832, 480), 275e12), ((1280, 720), 639e12)):
        assert work(settled(size=size)).shapes.decode_operations == pytest.approx(known, rel=0.05)


def test_blocks_that_travel_take_two_places_and_wait_on_the_host() -> None:
    clip = work()
    some, all_of_them = Residency(resident_blocks=10), Residency()
    saved = stage_bytes(clip, all_of_them, "denoise")[0] - stage_bytes(clip, some, "denoise")[0]
    assert saved == pytest.approx((clip.num_blocks - 10 - 2) * clip.block_bytes, rel=1e-6)
    host = [stage_bytes(clip, place, "denoise")[1] for place in (all_of_them, some, replace(some, source="disk"))]
    assert host[1] - host[0] == (clip.num_blocks - 10) * clip.block_bytes
    assert host[2] - host[0] == 2 * clip.block_bytes


def test_two_experts_wait_side_by_side() -> None:
    facts = published_facts(find_card("wan2.2-t2v-a14b"))
    clip = Workload.of(settled(facts), model=facts, machine=CARD, keeps_all=False)
    assert clip.denoisers == DENOISERS
    held = stage_bytes(clip, Residency(resident_blocks=0), "denoise")[1]
    assert held > 2 * clip.num_blocks * clip.block_bytes


def test_copies_hide_behind_computation_where_there_is_enough_of_it() -> None:
    slow = replace(CARD, rates=replace(known_rates(CARD), copy=1e8))
    place = Residency(resident_blocks=0)

    def denoise(machine: Machine, residency: Residency) -> float:
        stage = next(each for each in stage_costs(work(machine=machine), residency) if each.name == "denoise")
        assert stage.seconds is not None
        return stage.seconds

    assert denoise(CARD, place) < 1.05 * denoise(CARD, Residency())
    assert denoise(slow, place) > 5 * denoise(slow, Residency())


def test_smaller_tiles_take_less_and_compute_more() -> None:
    sizes = [(81, 480, 512), (81, 256, 256), (81, 128, 128)]
    taken = [tile_bytes(work(), tiles) for tiles in sizes]
    assert sorted(taken, reverse=True) == taken
    more = [tile_overhead(tiles, size=(81, 480, 832), frame_scale=4) for tiles in [None, *sizes]]
    assert more[0] == 1
    assert min(more[1:]) > 1
    assert tile_overhead((17, 480, 832), size=(81, 480, 832), frame_scale=4) > 1.5


def test_a_machine_of_which_nothing_is_known_has_no_seconds() -> None:
    plan = with_costs(settled(), model=WAN, machine=replace(CARD, rates=None))
    assert (plan.seconds, plan.band) == (None, None)
    assert all(stage.seconds is None for stage in plan.stages)
    assert plan.peak_vram_bytes > 0


def test_the_stages_make_up_the_whole() -> None:
    plan = with_costs(settled(), model=WAN, machine=CARD)
    assert [stage.name for stage in plan.stages] == ["load", "text", "denoise", "decode", "write"]
    assert plan.seconds == pytest.approx(sum(stage.seconds or 0 for stage in plan.stages))
    assert plan.peak_vram_bytes == max(stage.vram_bytes for stage in plan.stages)
    assert plan.peak_ram_bytes == max(stage.ram_bytes for stage in plan.stages)
    assert plan.band is not None
    assert plan.band[0] < (plan.seconds or 0) < plan.band[1]


def test_each_rung_is_lower_than_the_one_before() -> None:
    plan = with_costs(settled(), model=WAN, machine=CARD)
    place, clip = plan.residency or Residency(), work()
    peaks = []
    for rung in plan.rungs:
        place = rung.below(place)
        peaks.append(max(stage_bytes(clip, place, name)[0] for name in ("text", "denoise", "decode")))
    assert peaks
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < plan.peak_vram_bytes


def test_the_ledger_corrects_all_but_loading(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    plain = with_costs(settled(), model=WAN, machine=CARD, ledger=ledger)
    for _ in range(10):
        ledger.record(run_key(plain, CARD), Figures(seconds=100), Figures(seconds=200))
    learnt = with_costs(settled(), model=WAN, machine=CARD, ledger=ledger)
    assert learnt.correction == pytest.approx(2, rel=0.1)
    before, after = ({each.name: each.seconds or 0 for each in plan.stages} for plan in (plain, learnt))
    assert after["load"] == before["load"]
    assert after["denoise"] == pytest.approx(before["denoise"] * learnt.correction)
    assert learnt.seconds == pytest.approx(sum(after.values()))


def test_the_ledger_corrects_the_peak_of_the_memory_that_computes(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    plain = with_costs(settled(), model=WAN, machine=CARD, ledger=ledger)

    def note(vram: float, ram: float) -> Plan:
        taken = Figures(vram_bytes=plain.peak_vram_bytes * vram, ram_bytes=plain.peak_ram_bytes * ram)
        ledger.record(run_key(plain, CARD), Figures(None, plain.peak_vram_bytes, plain.peak_ram_bytes), taken)
        return with_costs(settled(), model=WAN, machine=replace(CARD, vram_bytes=80 * GB), ledger=ledger)

    roomy = note(1.2, 1.5)
    assert roomy.peak_correction == 1
    learnt = note(1.2, 1.5)
    assert learnt.peak_correction == pytest.approx(1.2)
    assert learnt.peak_bytes == learnt.peak_vram_bytes == pytest.approx(1.2 * roomy.peak_vram_bytes, rel=1e-6)
    assert learnt.peak_vram_bytes == max(stage.vram_bytes for stage in learnt.stages)
    assert learnt.peak_ram_bytes == roomy.peak_ram_bytes
    assert learnt.seconds == roomy.seconds


def test_what_runs_took_more_is_heeded_by_the_way_that_is_chosen_and_refuses_nothing(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    plain = with_costs(settled(), model=WAN, machine=CARD)
    for _ in range(2):
        ledger.record(run_key(plain, CARD), Figures(vram_bytes=1e9), Figures(vram_bytes=1.5e9))
    learnt = with_costs(settled(), model=WAN, machine=CARD, ledger=ledger)
    assert learnt.residency != plain.residency
    assert learnt.peak_vram_bytes <= 24 * GB
    least = next(
        gigabytes
        for gigabytes in range(2, 24)
        if fits(replace(CARD, vram_bytes=gigabytes * GB)) and not fits(replace(CARD, vram_bytes=(gigabytes - 1) * GB))
    )
    tight = replace(CARD, vram_bytes=least * GB)
    tried = with_costs(settled(), model=WAN, machine=tight, ledger=ledger)
    assert tried.peak_correction == pytest.approx(1.5)
    assert "earlier clips took 1.5 times the memory" in tried.warnings[-1]


def fits(machine: Machine) -> bool:
    try:
        with_costs(settled(), model=WAN, machine=machine)
    except DoesNotFit:
        return False
    return True


def test_words_that_were_read_before_take_neither_time_nor_memory() -> None:
    gpu: frozenset[Reader] = frozenset({"gpu"})
    cpu: frozenset[Reader] = frozenset({"cpu"})
    plain = with_costs(settled(), model=WAN, machine=CARD)
    kept = with_costs(settled(), model=WAN, machine=CARD, read=gpu)
    assert kept.residency is not None
    assert kept.residency.text_encoder == "cached"
    before, after = ({each.name: each for each in plan.stages} for plan in (plain, kept))
    assert (after["text"].seconds, after["text"].vram_bytes) == (0, 0)
    assert (before["load"].seconds or 0) - (after["load"].seconds or 0) > 5  # 11 GB from the disk
    assert after["denoise"] == before["denoise"]
    # On the processor its numbers are others: they are taken only where the GPU has no room to read.
    assert with_costs(settled(), model=WAN, machine=CARD, read=cpu).residency == plain.residency
    facts = published_facts(find_card("wan2.1-t2v-1.3b"))
    small = replace(imagined_gpu(HOST, vram_bytes=8 * GB), ram_bytes=12 * GB)
    plan = settled(facts, machine=small)
    with pytest.raises(DoesNotFit):
        with_costs(plan, model=facts, machine=small)
    for read in (gpu, cpu):
        found = with_costs(plan, model=facts, machine=small, read=read)
        assert found.residency is not None
        assert found.residency.text_encoder == "cached"
        assert found.peak_vram_bytes < 8 * GB
    laptop = replace(HOST, ram_bytes=20 * GB, rates=known_rates(HOST))
    assert with_costs(settled(facts, machine=laptop), model=facts, machine=laptop, read=gpu).peak_bytes < 20 * GB
    with pytest.raises(DoesNotFit):
        with_costs(settled(facts, machine=laptop), model=facts, machine=laptop, read=cpu)


def test_memory_that_others_hold_is_told_and_does_not_refuse() -> None:
    busy = replace(HOST, ram_free_bytes=GB // 4, rates=known_rates(HOST))
    facts = model_facts("pocket")
    plan = with_costs(settled(facts, machine=busy, size=(96, 96)), model=facts, machine=busy)
    assert any("other programs hold much of the memory" in warning for warning in plan.warnings)
    with pytest.raises(DoesNotFit, match=r"pocket needs 0\.\d GB of memory at least, and there are 0\.2; close other"):
        with_costs(plan, model=facts, machine=replace(busy, ram_bytes=GB // 4))


def test_passes_are_searched_within_a_class_of_exactness() -> None:
    search = Search(settled(), WAN, CARD)
    exact, loose = search.best(quality="exact"), search.best(quality="approximate")
    assert exact.exactness == "exact"
    assert "fused_norms" in exact.passes
    assert loose.exactness == "approximate"
    assert {"sparse_attention", "int8"} <= set(loose.passes)
    assert (loose.seconds or 0) < (exact.seconds or 0) / 2
    assert search.best(quality="approximate", prefer="quality").passes == exact.passes
    kinds = {each.kind: each.plan for each in search.alternatives(exact)}
    assert (kinds["faster"].seconds or 0) < (exact.seconds or 0)
    assert kinds["lighter"].peak_vram_bytes < 0.75 * exact.peak_vram_bytes
    assert "more exact" in {each.kind for each in search.alternatives(loose)}


def test_effects_are_read_from_the_words_that_choose_passes() -> None:
    assert effect_of(()).attention == effect_of(("int8",)).attention == 1
    assert effect_of(("sparse_attention:0.2",)).attention == pytest.approx(0.25)
    assert effect_of(("sparse_attention:ratio=0.3",)).attention == pytest.approx(0.35)
    assert effect_of(("fp8",)).eight_bit
    assert effect_of(("step_cache:mag:threshold=0.1",)).calls < 1


def test_before_torch_is_there_it_will_take_as_many_threads_as_when_the_machine_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a plan would not find what was measured."""
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(machine_module, "usable_cpus", lambda: 64)
    monkeypatch.setattr(machine_module, "_num_cores", lambda: 10)
    assert num_threads() == 10
    keep_rates(known_rates(HOST), machine=HOST, home=tmp_path)
    assert num_threads() == HOST.num_threads == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert num_threads() == 3
    keep_rates(known_rates(HOST), machine=replace(HOST, num_threads=3), home=tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert num_threads() == 10  # what was asked for once is no habit
    keep_rates(known_rates(HOST), machine=HOST, home=tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 999)
    assert num_threads() == 10  # the home of another machine


def test_measured_rates_are_kept_for_this_state_of_the_machine(tmp_path: Path) -> None:
    rates = replace(known_rates(HOST), matrix=123.0, measured=True)
    keep_rates(rates, machine=HOST, home=tmp_path)
    assert kept_rates(HOST, home=tmp_path) == rates
    assert kept_rates(replace(HOST, num_threads=1), home=tmp_path) is None
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("123.0", "-1"))
    assert kept_rates(HOST, home=tmp_path) is None


def test_a_machine_goes_to_another_process_and_back() -> None:
    machine = replace(CARD, rates=known_rates(CARD))
    assert Machine.read(machine.as_dict()) == machine
    with pytest.raises(ValueError, match="not above 0"):
        Rates.read({**machine.as_dict()["rates"], "copy": 0})


def test_limits_take_the_place_of_what_there_is() -> None:
    small = replace(CARD, ram_free_bytes=GB).granting(vram_bytes=8 * GB, ram_bytes=16 * GB)
    assert (small.vram_room_bytes, small.ram_room_bytes, small.limited) == (8 * GB, 16 * GB, True)
    assert HOST.granting(vram_bytes=8 * GB) == HOST
    free = free_ram_bytes()
    assert free is None or free > 0
