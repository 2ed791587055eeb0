"""When memory runs out midway: all is freed, one rung is taken, and the clip goes on to the same bits."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from homereel.core.errors import DoesNotFit, RanOutOfMemory, UnsupportedPass
from homereel.core.plan import Plan, Residency, Rung
from homereel.core.request import Request
from homereel.engine import ladder as ladder_module
from homereel.engine.clip import Clip
from homereel.engine.generate import generate, generate_file
from homereel.engine.memory import HostMemoryShort, check_host, keep_within, own_bytes
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from tests.passes.conftest import MACHINE, wish
from tests.tiny_models import save_tiny_kind

FEWER = Rung("1 of 2 blocks stay on the GPU", {"resident_blocks": 1})
NONE = Rung("no block stays on the GPU", {"resident_blocks": 0})
DISK = Rung("blocks travel from the disk", {"resident_blocks": 0, "source": "disk"})
TILES = Rung("decoding in tiles", {"vae_tiles": (5, 32, 32)})
WORDS = Rung("reading the words on the processor", {"text_encoder": "cpu"})

Plans = Callable[..., None]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Plans:
    """Clips get this residency and these rungs, as a plan for a GPU would have them."""
    plain = Clip.__init__

    def use(residency: Residency | None, *rungs: Rung) -> None:
        def init(self: Clip, *args: Any, **kwargs: Any) -> None:
            plain(self, *args, **kwargs)
            self.plan = replace(self.plan, residency=residency, rungs=rungs, stages=())

        monkeypatch.setattr(Clip, "__init__", init)

    return use


@pytest.fixture
def short_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """A hook in the second block of each denoiser that is loaded, which runs out of memory at calls of these numbers.

    Gives the list of all calls, by whether they failed.
    """

    def use(*failing: int) -> list[int]:
        calls: list[int] = []

        def hook(*_: Any) -> None:
            calls.append(int(len(calls) in failing))
            if calls[-1]:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        plain = Session.component

        def component(self: Session, name: str, *, dtype: str) -> Any:
            fresh = not self.is_loaded(name, dtype=dtype)
            part = plain(self, name, dtype=dtype)
            if fresh and name.startswith("transformer"):
                part.blocks[1].register_forward_pre_hook(hook)
            return part

        monkeypatch.setattr(Session, "component", component)
        return calls

    return use


@pytest.fixture
def plain(tiny_model_dir: Path) -> Request:
    """Three steps of two calls each."""
    return wish(tiny_model_dir)


def test_it_goes_on_below_from_the_last_step_to_the_same_bits(
    plain: Request, planned: Plans, short_at: Callable[..., list[int]]
) -> None:
    states: list[DenoiseState] = []
    planned(Residency(resident_blocks=0))
    with Session() as session:
        below = generate(plain, session=session, on_state=states.append)
        tail = generate(plain, session=session, resume=states[0])
    planned(Residency(resident_blocks=2), FEWER, NONE)
    calls = short_at(3, 5)
    plans: list[Plan] = []
    steps: list[int] = []
    with Session() as session:
        made = generate(
            plain,
            session=session,
            on_plan=plans.append,
            on_progress=lambda told: steps.append(told.step) if told.stage == "denoise" else None,
        )
    assert made.frames_sha256 == below.frames_sha256 == tail.frames_sha256
    # The first step's two calls, one of the second and its failure, again one and a failure, and what was left.
    assert calls == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0]
    assert steps == [0, 1, 0, 0, 2, 3, 3]
    assert [plan.residency and plan.residency.resident_blocks for plan in plans] == [2, 1, 0]
    assert [len(plan.rungs) for plan in plans] == [2, 1, 0]
    assert made.plan == plans[-1]
    assert made.plan.warnings[-2:] == (
        "the GPU's memory ran out while denoising; goes on with 1 of 2 blocks stay on the GPU",
        "the GPU's memory ran out while denoising; goes on with no block stays on the GPU",
    )
    assert made.record["homereel"]["resolved"]["residency"]["resident_blocks"] == 0


def test_no_more_rungs_than_the_plan_lists(plain: Request, planned: Plans, short_at: Callable[..., list[int]]) -> None:
    planned(Residency(resident_blocks=2), FEWER, DISK)
    calls = short_at(*range(99))
    with Session() as session:
        with pytest.raises(DoesNotFit, match=r"memory ran out while denoising, and .* ask for a smaller size"):
            generate(plain, session=session)
        assert calls == [1, 1, 1]
        assert not session._loaded


def test_everything_is_free_before_it_goes_on(
    plain: Request, planned: Plans, short_at: Callable[..., list[int]]
) -> None:
    planned(Residency(resident_blocks=1), NONE)
    short_at(2)
    networks: list[weakref.ref[Any]] = []
    free: list[bool] = []
    with Session() as session:

        def on_state(_: DenoiseState) -> None:
            networks.append(weakref.ref(session.component("transformer", dtype="float32").blocks[0]))

        def on_plan(_: Plan) -> None:
            free.append(not session._loaded and all(network() is None for network in networks))

        generate(plain, session=session, on_state=on_state, on_plan=on_plan)
    assert len(networks) == 3
    assert free == [True, True]


def test_a_rung_that_bears_on_the_stage_comes_first(
    plain: Request, planned: Plans, short_at: Callable[..., list[int]]
) -> None:
    planned(None, TILES, WORDS, FEWER)
    short_at(0, 1)
    plans: list[Plan] = []
    with Session() as session:
        generate(plain, session=session, on_plan=plans.append)
    assert [plan.rungs for plan in plans] == [(TILES, WORDS, FEWER), (TILES, WORDS), (WORDS,)]


def test_a_step_that_depends_on_those_before_is_no_place_to_go_on(
    plain: Request, planned: Plans, short_at: Callable[..., list[int]]
) -> None:
    cached = plain.replace(passes="step_cache:first_block:threshold=0:warm_up=0")
    planned(Residency(resident_blocks=0))
    with Session() as session:
        expected = generate(cached, session=session).frames_sha256
    planned(Residency(resident_blocks=1), NONE)
    calls = short_at(4)
    with Session() as session:
        assert generate(cached, session=session).frames_sha256 == expected
    assert calls == [0, 0, 0, 0, 1, *[0] * 6]


def test_words_that_do_not_fit_are_read_elsewhere(
    plain: Request, planned: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(None, FEWER, WORDS)
    from homereel.models.wan.family import WanFamily

    read, devices = WanFamily.encode_text, []

    def encode_text(self: WanFamily, *args: Any) -> Any:
        devices.append(session._device_for("text_encoder"))
        if len(devices) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return read(self, *args)

    monkeypatch.setattr(WanFamily, "encode_text", encode_text)
    with Session() as session:
        made = generate(plain, session=session)
        assert session._text_device == "cpu"
    assert made.plan.residency == Residency(text_encoder="cpu")
    assert made.plan.warnings[-1].startswith("the GPU's memory ran out while reading the words")


@pytest.mark.parametrize("times", [1, 2])
def test_the_sound_gets_all_the_memory_there_is(
    plain: Request, planned: Plans, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    planned(None, TILES)
    from homereel.models.wan.family import WanFamily

    loaded: list[bool] = []

    def decode_sound(self: WanFamily, latents: Any, **_: Any) -> None:
        loaded.append(session.is_loaded("transformer", dtype="float32"))
        if len(loaded) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(WanFamily, "decode_sound", decode_sound)
    with Session() as session:
        if times == 2:
            with pytest.raises(RanOutOfMemory, match=r"ran out while decoding the sound, and .* nothing left to give"):
                generate(plain, session=session)
            return
        made = generate(plain, session=session)
    assert loaded == [True, False]
    assert made.plan.residency is None  # tiles of frames are no help, and would change them
    assert made.plan.warnings[-1].endswith("decoding the sound; goes on with each part of the model loaded alone")


@pytest.mark.parametrize("to_file", [False, True])
def test_frames_that_were_given_out_are_not_given_again(
    plain: Request, planned: Plans, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, to_file: bool
) -> None:
    planned(None, NONE, TILES)
    from homereel.models.wan.family import WanFamily

    whole, tried = WanFamily.decode, []

    def decode(self: WanFamily, latents: Any, *, plan: Plan, use: Any) -> Any:
        tried.append(plan.residency)
        for index, piece in enumerate(whole(self, latents, plan=plan, use=use)):
            if index == 1 and len(tried) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            yield piece

    expected = generate(plain).frames_sha256
    with monkeypatch.context() as patch, Session() as session:
        patch.setattr(WanFamily, "decode", decode)
        made: Any
        if to_file:
            made = generate_file(plain, tmp_path / "a.mp4", session=session)
        else:
            made = generate(plain, session=session)
    assert tried == [None, Residency(vae_tiles=(5, 32, 32))]
    assert made.frames_sha256 == expected
    assert made.plan.rungs == (NONE,)


def test_a_host_without_room_goes_to_the_disk(plain: Request, planned: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(Residency(resident_blocks=1), FEWER, DISK)
    looked: list[int] = []

    def look(limit_bytes: int) -> None:
        looked.append(limit_bytes)
        if len(looked) == 3:
            raise HostMemoryShort("9.1 GB are held, 8.0 GB may be")

    monkeypatch.setattr(ladder_module, "check_host", look)
    with Session() as session:
        made = generate(plain, session=session)
        assert looked == [session.machine.ram_bytes] * 4
    assert made.plan.residency == Residency(resident_blocks=0, source="disk")
    assert made.plan.warnings[-1] == (
        "the host's memory ran out while denoising (9.1 GB are held, 8.0 GB may be); goes on with "
        "blocks travel from the disk"
    )


def test_what_is_held_is_known() -> None:
    held = own_bytes()
    if held is None:
        pytest.skip("only Linux tells")
    room = bytearray(64 * 1024**2)
    assert (own_bytes() or 0) - held > 48 * 1024**2
    check_host(held + 2**30)
    with pytest.raises(HostMemoryShort, match=r"GB are held, 0.0 GB may be"):
        check_host(2**20)
    del room


@pytest.mark.parametrize(("limited", "share"), [(True, 0.25), (False, 1.0)])
def test_a_gpu_is_held_to_what_was_granted_of_it(limited: bool, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=32 * 2**30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    keep_within(MACHINE)
    assert not told
    keep_within(replace(MACHINE, device="cuda", vram_bytes=8 * 2**30, limited=limited))
    assert told == [share]


def test_two_experts_lie_side_by_side_and_one_is_not_loaded_twice(
    tmp_path: Path, planned: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homereel.engine.clip.keeps_all", lambda *_, **__: False)
    request = wish(save_tiny_kind(tmp_path, "t2v-a14b"))
    with Session() as session:
        expected = generate(request, session=session).frames_sha256
    planned(Residency(resident_blocks=1))
    loaded: list[tuple[str, str]] = []
    with Session() as session:
        family: Any = type(session.family(str(tmp_path)))
        load = family.load

        def noted(self: Any, component: str, *, device: str, dtype: str) -> Any:
            loaded.append((component, device))
            return load(self, component, device=device, dtype=dtype)

        monkeypatch.setattr(family, "load", noted)
        assert generate(request, session=session).frames_sha256 == expected
    names = [name for name, _ in loaded]
    assert names.count("transformer") == names.count("transformer_2") == 1


def test_other_failures_go_on_as_they_are(plain: Request, planned: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(Residency(resident_blocks=1), NONE)

    def fail(*_: Any, **__: Any) -> None:
        raise UnsupportedPass("no")

    monkeypatch.setattr(Clip, "denoise", fail)
    with Session() as session, pytest.raises(UnsupportedPass, match="no"):
        generate(plain, session=session)
