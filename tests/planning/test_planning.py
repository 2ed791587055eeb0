"""Requests off the grid are moved and told; a plan is made from figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.core.machine import Machine
from homereel.core.model import Blocks, Defaults, Grid, Shapes, Stage
from homereel.core.plan import Footage, Plan
from homereel.core.request import Request
from homereel.planning import machine as machine_module
from homereel.planning.host_bytes import PROCESS_BYTES
from homereel.planning.machine import probe_machine, usable_cpus, usable_ram_bytes
from homereel.planning.memory import keeps_all, plan_memory
from homereel.planning.plan import plan_clip

GIB = 1024**3
LAPTOP = Machine("cpu", "laptop", 2, 16 * GIB, None, bf16_fast=False)
STANDARD = Defaults(96, 96, 33, 16, 30, 4.0, 2.0, "unipc")
BLOCKS = Blocks(layout="wan", num_blocks=2, num_heads=2, head_size=64)
GRID = Grid(16, 16, 4, 1024, 1024, 253)
CARD = Machine("cuda", "card", 8, 64 * GIB, 8 * GIB, bf16_fast=True)


@dataclass(frozen=True)
class Facts:
    """A model of figures alone."""

    gigabytes: float = 1
    inputs: frozenset[str] = frozenset({"text"})
    required: frozenset[str] = frozenset()
    makes_sound: bool = False
    told_pace: bool = False
    defaults: Defaults = STANDARD
    grid: Grid = GRID
    block_facts: Blocks = BLOCKS
    model = "facts"
    name = "wan"
    components = ("text_encoder", "transformer", "vae")
    decoders = frozenset({"vae"})
    readers = frozenset({"text_encoder"})

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        tokens = (num_frames // 4 + 1) * (height // 16) * (width // 16)
        return Shapes((1, 16, num_frames // 4 + 1, height // 8, width // 8), tokens, tokens * 1000, tokens * 5000)

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        return (Stage(noise=((1, 16, 1, 1, 1),), num_steps=plan.steps),)

    def compares_words(self, plan: Plan) -> bool:
        return plan.guidance > 1

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        return round(self.gigabytes * GIB) // (1 if dtype == "float32" else 2)

    def files(self) -> Mapping[str, Path]:
        return {}

    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def remarks(self, request: Request) -> tuple[str, ...]:
        return ("a remark",) if "remark" in request.prompt else ()


def plan_of(
    facts: Facts | None = None,
    *,
    machine: Machine = LAPTOP,
    picture_size: tuple[int, int] | None = None,
    footage: Footage | None = None,
    **wishes: Any,
) -> Plan:
    request = Request.parse({"prompt": "a ball", **wishes})
    return plan_clip(
        request,
        model=facts or Facts(),
        machine=machine,
        fresh_seed=99,
        picture_size=picture_size,
        footage=footage,
        models_for=lambda kind: (f"someone-with-{kind}",),
    )


def test_the_model_decides_what_is_not_asked() -> None:
    plan = plan_of()
    assert (plan.width, plan.height, plan.num_frames, plan.fps) == (96, 96, 33, 16)
    assert (plan.steps, plan.guidance, plan.shift, plan.sampler, plan.seed) == (30, 4.0, 2.0, "unipc", 99)
    assert (plan.device, plan.dtype, plan.num_tokens) == ("cpu", "float32", 9 * 36)
    assert plan.adjustments == plan.warnings == ()
    assert plan.exactness == "exact"


def test_what_is_asked_is_kept() -> None:
    wishes: dict[str, Any] = {"width": 128, "height": 64, "num_frames": 17, "fps": 16.0, "steps": 5, "guidance": 1.0}
    plan = plan_of(**wishes, shift=7.0, sampler="euler", seed=0)
    assert {name: getattr(plan, name) for name in wishes} == wishes
    assert (plan.shift, plan.sampler, plan.seed, plan.adjustments) == (7.0, "euler", 0, ())


@pytest.mark.parametrize(
    ("wishes", "used", "told"),
    [
        ({"width": 100, "height": 96}, (96, 96, 33), ["width 100 is not a multiple of 16; using 96"]),
        ({"width": 104, "height": 97}, (112, 96, 33), ["width 104 is not", "height 97 is not"]),
        ({"width": 3, "height": 96}, (16, 96, 33), ["width 3 is not a multiple of 16; using 16"]),
        ({"width": 4000, "height": 96}, (1024, 96, 33), ["width 4000 is more than 1024; using 1024"]),
        ({"num_frames": 34}, (96, 96, 33), ["num_frames 34 is not of the form 4n + 1; using 33 (2.06 s)"]),
        ({"num_frames": 2}, (96, 96, 1), ["num_frames 2 is not of the form"]),
        ({"num_frames": 900}, (96, 96, 253), ["num_frames 900 is more than 253; using 253"]),
        ({"seconds": 2}, (96, 96, 33), ["seconds 2, which is 32 frames at 16 fps, is not of the form"]),
        ({"seconds": 0.3125}, (96, 96, 5), []),
        ({"seconds": 600}, (96, 96, 253), ["is more than 253"]),
    ],
)
def test_off_the_grid_is_moved_and_told(wishes: dict[str, Any], used: tuple[int, int, int], told: list[str]) -> None:
    plan = plan_of(**wishes)
    assert (plan.width, plan.height, plan.num_frames) == used
    assert len(plan.adjustments) == len(told)
    for sentence, beginning in zip(plan.adjustments, told, strict=True):
        assert beginning in sentence


def test_one_side_follows_from_the_other() -> None:
    wide = Facts(defaults=Defaults(832, 480, 81, 16, 50, 5.0, 3.0, "unipc"))
    plan = plan_of(wide, height=240)
    assert (plan.width, plan.height) == (416, 240)
    plan = plan_of(wide, width=416)
    assert (plan.width, plan.height) == (416, 240)


def test_a_picture_gives_the_proportions_and_the_model_the_area() -> None:
    taking = Facts(inputs=frozenset({"text", "image"}))
    plan = plan_of(taking, picture_size=(1920, 1080), image="x.png")
    assert (plan.width, plan.height) == (128, 80)
    assert plan.adjustments == ()
    assert "overhangs" in plan.warnings[0]
    plan = plan_of(taking, picture_size=(400, 200), image="x.png", height=96)
    assert (plan.width, plan.height) == (192, 96)


def test_a_picture_for_a_model_that_takes_none_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match="facts takes no picture; models that do: someone-with-image") as caught:
        plan_of(image="x.png")
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        ({"last": "x.png"}, "last"),
        ({"keyframes": [{"image": "x.png", "seconds": 1}]}, "keyframes"),
        ({"video": "x.mp4"}, "video"),
        ({"references": ["x.png"]}, "references"),
        ({"video": "x.mp4", "mask": "x.png"}, "video"),
    ],
)
def test_what_a_model_does_not_take_names_those_which_do(wishes: dict[str, Any], kind: str) -> None:
    with pytest.raises(UnsupportedInput, match=f"someone-with-{kind}") as caught:
        plan_of(**wishes)
    assert caught.value.field == kind


def test_a_model_that_starts_from_pictures_asks_for_them() -> None:
    model = Facts(inputs=frozenset({"text", "image", "last"}), required=frozenset({"image", "last"}))
    with pytest.raises(UnsupportedInput, match="starts from a last picture; give one with --last") as caught:
        plan_of(model, image="x.png")
    assert caught.value.field == "last"
    assert plan_of(model, image="x.png", last="y.png").keyframes == (0, 32)


def test_pictures_are_placed_by_time_or_by_frame() -> None:
    model = Facts(inputs=frozenset({"text", "image", "last", "keyframes"}))
    keys = [{"image": "a.png", "seconds": 1.0}, {"image": "b.png", "frame": 4}]
    assert plan_of(model, image="x.png", last="y.png", keyframes=keys).keyframes == (0, 4, 16, 32)
    with pytest.raises(InvalidRequest, match=r"a\.png is for frame 33 .*the last one is 32"):
        plan_of(model, keyframes=[{"image": "a.png", "frame": 33}])
    with pytest.raises(InvalidRequest, match="two pictures are for frame 0"):
        plan_of(model, image="x.png", keyframes=[{"image": "a.png", "seconds": 0}])


REMAKING = Facts(inputs=frozenset({"text", "video", "strength"}))


def test_footage_gives_the_length_as_far_as_the_standard_clip_goes() -> None:
    short = plan_of(REMAKING, footage=Footage(64, 64, 23 / 16.0), video="x.mp4")
    assert (short.num_frames, short.strength) == (21, STANDARD.strength)
    assert "of the footage's 1.44 s the first 1.31 s are used" in short.adjustments
    assert plan_of(REMAKING, footage=Footage(64, 64, 900 / 60.0), video="x.mp4").num_frames == 33
    slower = plan_of(REMAKING, footage=Footage(64, 64, 34 / 32.0), video="x.mp4", strength=0.25)
    assert (slower.num_frames, slower.strength) == (17, 0.25)
    with pytest.raises(InvalidRequest, match="the footage gives 9 frames at 16 fps, and 33 are asked for"):
        plan_of(REMAKING, footage=Footage(64, 64, 9 / 16.0), video="x.mp4", num_frames=33)


def test_a_model_that_fills_gaps_goes_beyond_its_footage() -> None:
    filling = Facts(inputs=frozenset({"text", "video", "mask"}))
    plan = plan_of(filling, footage=Footage(64, 64, 9 / 16.0), video="x.mp4", num_frames=33, strength=0.5)
    assert (plan.num_frames, plan.strength) == (33, None)
    assert "no use for strength" in plan.warnings[-1]


def test_sound_is_made_where_the_model_can_and_it_is_wanted() -> None:
    assert not plan_of().sound
    assert plan_of(Facts(makes_sound=True)).sound
    assert not plan_of(Facts(makes_sound=True), sound=False).sound


@pytest.mark.parametrize(
    ("wishes", "warning"),
    [
        ({"negative_prompt": "blur", "guidance": 1}, "negative prompt is not heeded"),
        ({"fps": 32}, "2 times as fast"),
        ({"width": 512, "height": 512}, "at its best near 96x96"),
        ({"width": 32, "height": 32}, "at its best near 96x96"),
        ({"prompt": "a remark"}, "a remark"),
    ],
)
def test_what_is_not_heeded_or_unwise_is_told(wishes: dict[str, Any], warning: str) -> None:
    assert plan_of().warnings == ()
    (told,) = plan_of(**wishes).warnings
    assert warning in told


def test_memory_follows_from_weights_shapes_and_room() -> None:
    small = plan_of(Facts(gigabytes=1))
    assert small.weight_bytes == 3 * GIB
    assert small.peak_bytes == PROCESS_BYTES + 3 * GIB + small.num_tokens * 5000
    large = plan_of(Facts(gigabytes=4))
    assert large.weight_bytes == 12 * GIB
    assert large.peak_bytes == PROCESS_BYTES + 4 * GIB + large.num_tokens * 5000, "one part at a time"
    assert plan_of(Facts(gigabytes=1), machine=CARD).dtype == "bfloat16"
    assert plan_of(Facts(gigabytes=1), machine=CARD).weight_bytes == 3 * GIB // 2
    assert keeps_all(Facts(gigabytes=2), machine=CARD)
    assert not keeps_all(Facts(gigabytes=4), machine=CARD)


def test_what_passes_free_is_free_after_loading_only() -> None:
    """Layers are put in 8 bits when all of a part is there: less is held, and loading takes what it took."""
    freed = {"transformer": GIB // 2}
    for gigabytes, beside in ((1, 2), (4, 0)):  # all parts side by side, and one at a time
        facts = Facts(gigabytes=gigabytes)
        for tokens, peak in ((1000, gigabytes * GIB), (10**6, round((gigabytes - 0.5) * GIB) + 10**9)):
            shapes = Shapes((1, 16, 1, 1, 1), tokens, denoise_bytes=tokens * 1000, decode_bytes=0)
            found = plan_memory(facts, machine=LAPTOP, shapes=shapes, freed=freed)
            assert found.weight_bytes == (3 * gigabytes * GIB) - GIB // 2
            text_encoder = gigabytes * GIB + tokens * 1000 + (beside * GIB - GIB // 2 if beside else 0)
            assert found.peak_bytes == PROCESS_BYTES + max(peak + beside * GIB, text_encoder)


def test_plans_are_pure() -> None:
    assert plan_of(seed=5) == plan_of(seed=5)


def test_this_machine_is_probed() -> None:
    machine = probe_machine()
    assert machine.device == "cpu"
    assert machine.vram_bytes is None
    assert 1 <= machine.num_threads <= usable_cpus()
    assert machine.ram_bytes == usable_ram_bytes() > 256 * 1024**2
    assert machine.name
    assert replace(machine, bf16_fast=True).dtype == "bfloat16"


def test_bfloat16_is_for_processors_with_amx_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("HOMEREEL_DTYPE")
    for has_amx, fastest in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx)
        assert probe_machine().dtype == fastest


def test_the_format_of_numbers_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in ("bfloat16", "float32"):
        monkeypatch.setenv("HOMEREEL_DTYPE", dtype)
        assert probe_machine().dtype == dtype


def test_a_gpu_that_is_not_there_cannot_be_wished_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("HOMEREEL_DEVICE", "cuda")
    with pytest.raises(InvalidRequest, match="no such GPU"):
        probe_machine()


def test_a_containers_limits_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_module, "_CGROUP", tmp_path)
    free_cpus, free_ram = usable_cpus(), usable_ram_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert (usable_cpus(), usable_ram_bytes()) == (free_cpus, free_ram)
    (tmp_path / "memory.max").write_text(f"{64 * 1024**2}\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert (usable_cpus(), usable_ram_bytes()) == (1, 64 * 1024**2)


def test_a_model_that_is_told_the_pace_keeps_its_speed() -> None:
    assert any("2 times as fast" in warning for warning in plan_of(fps=32).warnings)
    assert not plan_of(Facts(told_pace=True), fps=32).warnings
