"""The parts of the LTX-2 adapter: what files tell, times, layout, text, pictures, loading, stages, stopping. Parity of
whole clips is tested in the engine.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from homereel import media
from homereel.core.errors import InvalidRequest, Stopped, WeightsError
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.models.ltx.config import read_ltx_config
from homereel.models.ltx.decode import speak
from homereel.models.ltx.facts import LtxFacts
from homereel.models.ltx.family import LtxFamily
from homereel.models.ltx.layout import LtxLayout, pack_audio, pack_video
from homereel.models.ltx.pictures import recompressed
from homereel.models.ltx.schedule import distilled_sigmas, full_sigmas, refining_sigmas
from homereel.models.registry import model_facts, model_family
from homereel.planning.plan import plan_clip
from homereel.weights.model_folder import ModelFolder
from homereel.weights.word_store import WordStore
from tests.tiny_ltx import MAX_TOKENS, Generation, save_tiny_ltx

MACHINE = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ltx(tmp_path_factory.mktemp("full"), generation="2.3", distilled=False)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ltx(tmp_path_factory.mktemp("distilled"), generation="2.5", distilled=True, upscaler=True)


@pytest.fixture(scope="module")
def warm() -> Iterator[Session]:
    """For tests that do not ask what a session of its own would do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMEREEL_DEVICE", "cpu")
        session = Session(words=WordStore.none())
    with session:
        yield session


def facts_of(folder: Path) -> LtxFacts:
    facts = model_facts(str(folder))
    assert isinstance(facts, LtxFacts)
    return facts


def family_of(folder: Path) -> LtxFamily:
    family = model_family(str(folder))
    assert isinstance(family, LtxFamily)
    return family


def request_for(folder: Path, **wishes: Any) -> Request:
    return Request.parse({"prompt": "a red ball", "model": str(folder), "seed": 7, "num_frames": 9, **wishes})


def plan_of(folder: Path, **wishes: Any) -> Plan:
    return plan_clip(request_for(folder, **wishes), model=facts_of(folder), machine=MACHINE, fresh_seed=0)


@pytest.mark.parametrize("generation", ["2.0", "2.3", "2.5"])
@pytest.mark.parametrize("is_distilled", [False, True])
def test_files_tell_the_generation_and_what_was_distilled(
    tmp_path: Path, generation: Generation, is_distilled: bool
) -> None:
    save_tiny_ltx(tmp_path, generation=generation, distilled=is_distilled)
    config = read_ltx_config(ModelFolder(tmp_path))
    assert (config.generation, config.distilled) == (generation, is_distilled)
    assert config.image_crf == (18 if generation == "2.5" else 33)
    assert config.crossed_times == (generation != "2.0")
    assert config.skips == (generation != "2.0")
    assert (config.scale, config.frame_scale) == (32, 8)
    assert config.sound_rate == (16_000 if generation == "2.0" else 48_000)
    assert not config.upscaler


def test_the_grid_and_the_inputs(full: Path) -> None:
    facts = facts_of(full)
    assert facts.makes_sound
    assert facts.inputs == {"text", "image", "last", "keyframes"}
    plan = plan_of(full, width=100, height=70, num_frames=12)
    assert (plan.width, plan.height, plan.num_frames) == (96, 64, 9)
    assert plan.sound
    assert not plan_of(full, sound=False).sound
    assert facts.grid.max_frames == 161, "20 seconds at 8 frames a second"


def test_facts_need_no_torch(distilled: Path) -> None:
    code = (
        "import sys; from homereel.models.registry import model_facts; from homereel.core.request import Request;"
        "from homereel.planning.plan import plan_clip; from homereel.core.machine import Machine;"
        f"facts = model_facts({str(distilled)!r});"
        "machine = Machine(device='cpu', name='', num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=True);"
        "plan = plan_clip(Request(prompt='a'), model=facts, machine=machine, fresh_seed=0); facts.stages(plan);"
        "facts.files(); sys.exit(str({'torch', 'diffusers', 'transformers'} & set(sys.modules)) "
        "if {'torch', 'diffusers', 'transformers'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("steps", [2, 3, 8, 40])
@pytest.mark.parametrize("num_tokens", [16, 6144])
def test_times_equal_the_scheduler(full: Path, steps: int, num_tokens: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.ltx2.pipeline_ltx2 import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(full / "scheduler")
    bend = calculate_shift(num_tokens, 1024, 4096, 0.95, 2.05)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=bend)
    found = full_sigmas(steps, timetable=facts_of(full).config.timetable, num_tokens=num_tokens, shift=1.0)
    assert list(found) == scheduler.sigmas.tolist(), "the same numbers in the same order: no rounding apart"


def test_one_step_goes_all_the_way(full: Path) -> None:
    assert full_sigmas(1, timetable=facts_of(full).config.timetable, num_tokens=16, shift=1.0) == (1.0, 0.0)


def test_distilled_times(distilled: Path) -> None:
    from diffusers.pipelines.ltx2 import utils

    table = facts_of(distilled).config.timetable
    float32 = [float(np.float32(sigma)) for sigma in (*utils.DISTILLED_SIGMA_VALUES, 0.0)]
    assert list(distilled_sigmas(8, timetable=table, shift=1.0)) == float32
    assert list(distilled_sigmas(4, timetable=table, shift=1.0)) == float32[::2]
    assert list(refining_sigmas(timetable=table, shift=1.0)) == float32[-4:]
    more = distilled_sigmas(30, timetable=table, shift=2.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(more))
    assert distilled_sigmas(8, timetable=table, shift=2.0)[-2] > float32[-2], "more noise for longer"


def test_tokens_lie_as_in_diffusers() -> None:
    from diffusers import LTX2Pipeline

    layout = LtxLayout(channels=4, frames=3, height=2, width=5, audio_channels=2, audio_frames=7, audio_bins=3)
    video, audio = torch.randn(layout.video_shape), torch.randn(1, 2, 7, 3)
    assert torch.equal(pack_video(video), LTX2Pipeline._pack_latents(video))
    assert torch.equal(pack_audio(audio), LTX2Pipeline._pack_audio_latents(audio))
    flat = torch.cat([pack_video(video).flatten(), pack_audio(audio).flatten()])
    video_BSC, audio_BLD = layout.split(flat)
    assert torch.equal(layout.unpack_video(video_BSC), video)
    assert torch.equal(layout.unpack_audio(audio_BLD), audio)


@pytest.mark.parametrize(("width", "height", "num_stages"), [(128, 64, 2), (64, 64, 1), (96, 128, 1), (192, 128, 2)])
def test_large_clips_take_two_stages_where_half_the_size_is_on_the_grid(
    distilled: Path, width: int, height: int, num_stages: int
) -> None:
    plan = plan_of(distilled, width=width, height=height, steps=8)
    stages = facts_of(distilled).stages(plan)
    assert [stage.num_steps for stage in stages] == [8, 3][:num_stages]
    cells = (height // 32, width // 32) if num_stages == 1 else (height // 64, width // 64)
    assert stages[0].noise[0] == (1, 4, 2, *cells)
    assert stages[-1].noise[-1][1] in (2, 28), "the sound is as long in both: 28 cells"


def test_a_model_that_was_not_distilled_stays_at_one_stage(tmp_path: Path) -> None:
    save_tiny_ltx(tmp_path, generation="2.0", distilled=False, upscaler=True)
    facts = facts_of(tmp_path)
    assert "latent_upsampler" not in facts.components
    assert len(facts.stages(plan_of(tmp_path, width=256, height=256))) == 1


def test_only_the_part_of_gemma_that_reads_is_counted_and_loaded(full: Path) -> None:
    stored = load_file(full / "text_encoder" / "model.safetensors")
    kept = {name: tensor for name, tensor in stored.items() if name.startswith("language_model.model.")}
    assert len(kept) < len(stored), "there is something to leave out"
    counted = facts_of(full).weight_bytes("text_encoder", dtype="float32")
    assert counted == 4 * sum(tensor.numel() for tensor in kept.values())
    reader = family_of(full).load("text_encoder", device="cpu", dtype="float32")
    assert counted == sum(parameter.nbytes for parameter in reader.parameters())


@pytest.mark.parametrize("component", ["connectors", "transformer", "latent_upsampler", "vae", "audio_vae", "vocoder"])
def test_weights_are_loaded_as_diffusers_does(distilled: Path, component: str) -> None:
    import diffusers
    from diffusers.pipelines import ltx2

    name = json.loads((distilled / component / "config.json").read_text())["_class_name"]
    kind: Any = getattr(diffusers, name, None) or getattr(ltx2, name)
    theirs = kind.from_pretrained(distilled / component)
    ours = family_of(distilled).load(component, device="cpu", dtype="float32")
    expected = {**theirs.state_dict(), **dict(theirs.named_buffers())}
    found = {**ours.state_dict(), **dict(ours.named_buffers())}
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (2, 2)])
@pytest.mark.parametrize("crf", [18, 33])
def test_pictures_are_compressed_as_diffusers_does(size: tuple[int, int], crf: int) -> None:
    from diffusers.pipelines.ltx2.utils import apply_image_conditioning_crf

    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    ours = recompressed(image, crf=crf)
    assert np.array_equal(ours, apply_image_conditioning_crf(image, crf))
    assert not np.array_equal(ours, image[: ours.shape[0], : ours.shape[1]])


def test_a_picture_of_one_row_is_left_alone() -> None:
    image = np.zeros((1, 9, 3), np.uint8)
    assert recompressed(image, crf=33) is image


def change(component: str, **values: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json")
        config = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in config.items() if value != "gone"}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("transformer", in_channels="gone"), "in_channels"),
        (change("transformer", patch_size=2), "patches of latents"),
        (change("vae", decoder_inject_noise=[True, False]), "adds noise"),
        (change("text_encoder", model_type="llama"), "reads prompts with llama"),
        (change("scheduler", use_karras_sigmas=True), "use_karras_sigmas"),
        (change("scheduler", max_image_seq_len=1024), "no usable times"),
        (change("scheduler", base_shift=1e6), "no usable times"),
        (change("scheduler", shift_terminal=1), "no usable times"),
        (change("connectors", video_connector_num_learnable_registers=7), "not a multiple of 7"),
    ],
)
def test_odd_configurations_are_refused(
    full: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = Path(shutil.copytree(full, tmp_path / "model"))
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        model_facts(str(folder))


def test_a_missing_statistic_is_told(distilled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(distilled, tmp_path / "model"))
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if name != "latents_std"}, file)
    with pytest.raises(WeightsError, match="latents_std"):
        generate(request_for(folder, width=128, height=64, steps=1))


def test_what_is_said_of_a_request(full: Path, distilled: Path) -> None:
    def remarks(folder: Path, **wishes: Any) -> tuple[str, ...]:
        return facts_of(folder).remarks(request_for(folder, **wishes))

    assert remarks(full, steps=20, guidance=5.0) == ()
    assert "distilled for 8 steps" in remarks(distilled, steps=20)[0]
    assert remarks(distilled, steps=8) == ()
    assert "without guidance" in remarks(distilled, guidance=3.0)[0]
    long = "ball " * MAX_TOKENS
    assert "1 tokens too long" in remarks(full, prompt=long)[0]
    with pytest.raises(InvalidRequest, match="euler") as error:
        remarks(full, sampler="unipc")
    assert error.value.field == "sampler"


def test_a_clip_of_one_cell_is_refused(full: Path) -> None:
    with pytest.raises(InvalidRequest, match="64x64 is the least"):
        generate(request_for(full, width=32, height=64))


@pytest.mark.parametrize(("guidance", "passes"), [(1.0, 1), (3.0, 3)])
def test_a_stop_takes_effect_after_every_pass(full: Path, warm: Session, guidance: float, passes: int) -> None:
    """With two blocks there is none to leave attention out of, so guidance takes three passes a step."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return False

    def count(steps: int) -> int:
        nonlocal asked
        asked = 0
        request = request_for(full, width=64, height=64, guidance=guidance, steps=steps)
        generate(request, session=warm, should_stop=should_stop)
        return asked

    assert count(3) - count(2) == passes

    with pytest.raises(Stopped):
        generate(request_for(full, width=64, height=64), session=warm, should_stop=lambda: True)


def test_a_clip_resumes_to_the_same_bits_in_either_stage(distilled: Path, warm: Session, tmp_path: Path) -> None:
    request = request_for(distilled, width=128, height=64, steps=3, sound=True)
    states: list[DenoiseState] = []
    whole = generate(request, on_state=states.append)
    assert [(state.stage, state.step) for state in states] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    for state in (states[1], states[2], states[4]):
        state.save(tmp_path / "state.safetensors")
        again = generate(request, session=warm, resume=DenoiseState.load(tmp_path / "state.safetensors"))
        assert again.frames_sha256 == whole.frames_sha256
        assert again.sound_sha256 == whole.sound_sha256


def test_a_small_machine_makes_the_same_clip(distilled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part is freed before the next is loaded, and none is missed."""
    request = request_for(distilled, width=128, height=64, steps=2)
    with Session() as roomy:
        expected = generate(request, session=roomy)
    monkeypatch.setattr("homereel.engine.clip.keeps_all", lambda *_, **__: False)
    with Session() as small:
        assert generate(request, session=small).frames_sha256 == expected.frames_sha256


def test_previews_show_both_stages(distilled: Path, warm: Session) -> None:
    shown: list[tuple[int, ...]] = []

    def on_progress(event: Any) -> None:
        if event.preview is not None:
            shown.append(event.preview().shape)

    generate(request_for(distilled, width=256, height=128, steps=1), session=warm, on_progress=on_progress)
    assert shown[0] == (8, 64, 128, 3)
    assert set(shown[1:]) == {(8, 96, 192, 3)}


def test_the_film_has_its_sound_unless_it_is_not_wanted(full: Path, warm: Session, tmp_path: Path) -> None:
    loud = generate(request_for(full, width=64, height=64), session=warm)
    silent = generate(request_for(full, width=64, height=64, sound=False), session=warm)
    assert loud.frames_sha256 == silent.frames_sha256, "the picture is the same"
    assert silent.sound is None
    heard = media.probe(loud.save(tmp_path / "loud.mp4")).sound
    assert heard is not None
    assert heard.rate == 48_000
    assert media.probe(silent.save(tmp_path / "silent.mp4")).sound is None


def test_sound_beyond_the_clip_is_cut_off() -> None:
    class Hum:
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, mel: torch.Tensor) -> torch.Tensor:
            return mel.new_full((1, 2, 16_000), 0.5)

    assert speak(Hum(), torch.zeros(1), rate=16_000, seconds=0.75).samples.shape == (12_000, 2)
    assert speak(Hum(), torch.zeros(1), rate=16_000, seconds=2.0).samples.shape == (16_000, 2)


def test_a_single_frame_is_a_clip(full: Path, warm: Session) -> None:
    result = generate(request_for(full, width=64, height=64, num_frames=1), session=warm)
    assert result.frames.shape == (1, 64, 64, 3)
    assert result.sound is not None
    assert 0 < result.sound.seconds <= 1 / 8


def test_a_large_clip_is_decoded_in_tiles(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller tiles and a clip beyond them, one of whose sides would leave a tile of one cell: the frames keep their
    number and size, and nearly their values.
    """
    from homereel.models.ltx import decode as ltx_decode
    from homereel.models.ltx import family as ltx

    request = request_for(full, width=192, height=128, num_frames=33, steps=1)
    with Session() as session:
        whole = generate(request, session=session).frames
        monkeypatch.setattr(ltx, "WHOLE_DECODE_BYTES", 0)
        sizes = {"TILE_PIXELS": 128, "TILE_FRAMES": 16, "TILE_OVERLAP_PIXELS": 32, "TILE_OVERLAP_FRAMES": 8}
        for name, value in sizes.items():
            monkeypatch.setattr(ltx_decode, name, value)
        tiled = generate(request, session=session).frames
        monkeypatch.undo()
        assert np.array_equal(generate(request, session=session).frames, whole), "the switches are set back"
    assert tiled.shape == whole.shape
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() > 0, "tiles see no neighbours"
    chance = np.abs(whole.astype(int) - whole[::-1]).mean()
    assert difference[-8:].mean() < chance / 2, "yet no frame comes late, though random weights look far around"
