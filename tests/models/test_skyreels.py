"""The parts of the SkyReels-V2 adapter: windows, what is said of a model, loading, decoding. Parity of whole clips
is tested in the engine.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from homereel.core.errors import UnsupportedInput, WeightsError
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.models.card import ModelCard
from homereel.models.catalogue.skyreels import SKYREELS
from homereel.models.picture import to_frames
from homereel.models.registry import model_facts, model_family
from homereel.models.skyreels.facts import MAX_FRAMES, SkyreelsFacts
from homereel.models.skyreels.family import SkyreelsFamily, known_noise, nearest_pace
from homereel.models.skyreels.open import open_skyreels
from homereel.models.skyreels.windows import Window, split_windows
from homereel.models.wan import facts as wan_facts
from homereel.models.wan.vae import latent_statistics
from homereel.planning.plan import plan_clip
from homereel.sampling import unipc_schedule
from homereel.weights.model_folder import ModelFolder
from tests.tiny_skyreels import save_tiny_skyreels

MACHINE = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)
# The times of the standard clip: 30 steps, shift 8.
TIMES_OF_30_STEPS = [
    *(999, 995, 991, 986, 981, 975, 969, 963, 956, 949, 941, 932, 923, 912, 901),
    *(889, 875, 859, 842, 822, 800, 774, 744, 709, 667, 616, 553, 473, 367, 221),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_skyreels(tmp_path_factory.mktemp("tiny-skyreels"))


@pytest.fixture
def family(folder: Path) -> SkyreelsFamily:
    found = model_family(str(folder))
    assert isinstance(found, SkyreelsFamily)
    return found


def plan_of(facts: SkyreelsFacts, **wishes: Any) -> Plan:
    request = Request(prompt="a red ball", model=facts.model, seed=1)
    return plan_clip(request.replace(**wishes), model=facts, machine=MACHINE, fresh_seed=0)


def as_card(facts: SkyreelsFacts, card: ModelCard) -> SkyreelsFacts:
    """The tiny model with the standard clip of a model of the catalogue."""
    return replace(facts, base_defaults=card.defaults.settled(), card=type(facts.card)())


@pytest.mark.parametrize(
    ("num_frames", "longest", "new"),
    [
        (1, 25, [1]),
        (25, 25, [25]),
        (26, 25, [25, 1]),
        (45, 25, [25, 20]),
        (185, 25, [25, *[20] * 8]),
        (46, 31, [31, 15]),
    ],
)
def test_windows_add_up(num_frames: int, longest: int, new: list[int]) -> None:
    windows = split_windows(num_frames, longest=longest, overlap=5)
    assert [window.num_frames - window.num_carried for window in windows] == new
    assert [window.num_carried for window in windows] == [0] + [5] * (len(new) - 1)
    assert max(window.num_frames for window in windows) <= longest


@pytest.mark.parametrize("seconds", [3, 4, 5, 10, 15, 30, 60])
def test_windows_are_those_of_the_pipeline(seconds: int) -> None:
    """Its formulas, for 97 frames with 17 overlapping."""
    frames = 6 * seconds + 1
    rounds = 1 if frames <= 25 else 1 + (frames - 25 - 1) // (25 - 5) + 1
    left = [frames - (index * (25 - 5) + 5) for index in range(1, rounds)]
    expected = [Window(0, min(frames, 25)), *(Window(5, min(rest + 5, 25)) for rest in left)]
    assert split_windows(frames, longest=25, overlap=5) == tuple(expected)


@pytest.mark.parametrize(
    ("index", "base", "seconds", "num_frames", "windows"),
    [(0, 97, 30, 721, 9), (2, 121, 30, 721, 7), (0, 97, 4, 97, 1), (0, 97, 300, MAX_FRAMES, 90)],
)
def test_the_standard_clip_is_a_window_and_a_long_one_is_made_of_them(  # noqa: PLR0917
    family: SkyreelsFamily, index: int, base: int, seconds: int, num_frames: int, windows: int
) -> None:
    facts = as_card(family, SKYREELS[index])
    assert facts.window_frames == base
    plan = plan_of(facts, seconds=seconds, width=32, height=32)
    stages = facts.stages(plan)
    assert (plan.num_frames, len(stages)) == (num_frames, windows)
    assert {stage.num_steps for stage in stages} == {30}
    assert max(stage.noise[0][2] for stage in stages) == (base - 1) // 4 + 1
    told = [warning for warning in plan.warnings if "windows" in warning]
    assert len(told) == (windows > 1)
    assert all(f"{windows} windows" in warning for warning in told)


def test_memory_grows_with_latents_and_frames_only(family: SkyreelsFamily) -> None:
    facts = as_card(family, SKYREELS[0])
    sizes = {"width": 960, "height": 544, "dtype": "bfloat16"}
    window, film = (facts.shapes(num_frames=frames, **sizes) for frames in (97, 721))  # type: ignore[arg-type]
    assert film.latents == window.latents == (1, 4, 25, 68, 120)
    assert film.num_tokens == window.num_tokens == 25 * 34 * 60
    more_latents = (181 - 25) * 4 * 68 * 120 * 4
    assert film.denoise_bytes - window.denoise_bytes == 2 * more_latents
    assert film.decode_bytes - window.decode_bytes == 2 * more_latents + (721 - 97) * 960 * 544 * 3
    # The decoder's own part is that of five frames: eight channels, in bfloat16, eleven layers at once.
    frames = 97 * 960 * 544 * 3
    assert window.decode_bytes - frames - 2 * math.prod(window.latents) * 4 == 11 * 5 * 960 * 544 * 8 * 2


def test_what_it_takes(folder: Path, family: SkyreelsFamily) -> None:
    facts = model_facts(str(folder))
    assert facts.name == "skyreels-v2"
    assert sorted(facts.inputs) == ["image", "text"]
    assert not facts.required
    assert facts.components == ("text_encoder", "transformer", "vae")
    assert facts.grid.max_frames == 7201
    assert {"transformer/config.json", "vae/config.json", "tokenizer/tokenizer.json"} <= facts.files().keys()
    assert facts.weight_bytes("transformer", dtype="bfloat16") * 2 == facts.weight_bytes("transformer", dtype="float32")
    with pytest.raises(UnsupportedInput, match="takes no last picture"):
        plan_of(family, image="a.png", last="b.png")


def test_with_a_picture_the_makers_advice_is_told(family: SkyreelsFamily) -> None:
    def told(**wishes: Any) -> bool:
        return any("guidance 5 and shift 5" in warning for warning in plan_of(family, **wishes).warnings)

    assert told(image="a.png")
    assert told(image="a.png", guidance=5.0)
    assert not told(image="a.png", guidance=5.0, shift=5.0)
    assert not told()


def test_models_of_the_catalogue_have_their_makers_settings(tmp_path: Path) -> None:
    model = save_tiny_skyreels(tmp_path)
    (model / "homereel.json").unlink()
    for card in SKYREELS:
        facts = open_skyreels(name=card.id, folder=ModelFolder(model), card=card, compute=False)
        assert facts.model == card.id
        assert facts.defaults == card.defaults.settled()
        assert (facts.defaults.shift, facts.defaults.guidance, facts.defaults.fps) == (8, 6, 24)
    assert [card.defaults.num_frames for card in SKYREELS] == [97, 97, 121]


def test_a_folder_without_a_card_follows_its_scheduler(tmp_path: Path) -> None:
    model = save_tiny_skyreels(tmp_path)
    (model / "homereel.json").unlink()
    assert model_facts(str(model)).defaults.shift == 2.0
    file = model / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "flow_shift": 1.0}))
    defaults = model_facts(str(model)).defaults
    assert (defaults.shift, defaults.num_frames) == (8.0, 97), "1 is what is written where none was chosen"


def change(file: str, **values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / file).read_text())
        config.setdefault("defaults", {}).update(values) if file == "homereel.json" else config.update(values)
        (folder / file).write_text(json.dumps(config))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("transformer/config.json", num_frame_per_block=5), "sees 5 latent frames a block"),
        (change("transformer/config.json", patch_size=[2, 2, 2]), "in patches of 2"),
        (change("transformer/config.json", image_dim=16), "DF in their names"),
        (change("transformer/config.json", in_channels=12), "DF in their names"),
        (change("homereel.json", num_frames=17), "from 21 to 253"),
        (change("homereel.json", num_frames=26), r"4n \+ 1"),
        (change("homereel.json", num_frames=257), "from 21 to 253"),
    ],
)
def test_another_kind_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    model = save_tiny_skyreels(tmp_path)
    damage(model)
    with pytest.raises(WeightsError, match=message):
        model_facts(str(model))


def test_the_schedule_is_the_makers() -> None:
    from diffusers import UniPCMultistepScheduler

    theirs = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    theirs.set_timesteps(30)
    ours = unipc_schedule(30, shift=8.0)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist() == TIMES_OF_30_STEPS
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, atol=1e-7, rtol=0)  # float32 of the same float64


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_transformer_is_loaded_as_diffusers_does(folder: Path, family: SkyreelsFamily, dtype: str) -> None:
    from diffusers import SkyReelsV2Transformer3DModel

    theirs = SkyReelsV2Transformer3DModel.from_pretrained(
        folder, subfolder="transformer", torch_dtype=getattr(torch, dtype)
    )
    ours = family.load("transformer", device="cpu", dtype=dtype)
    expected: dict[str, Tensor] = {**theirs.state_dict(), **dict(theirs.named_buffers())}
    found = {**ours.state_dict(), **dict(ours.named_buffers())}
    assert found.keys() == expected.keys()
    assert "fps_embedding.weight" in found
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name


def test_the_other_parts_are_wans(family: SkyreelsFamily) -> None:
    names = [type(family.load(part, device="cpu", dtype="float32")).__name__ for part in ("text_encoder", "vae")]
    assert names == ["UMT5EncoderModel", "AutoencoderKLWan"]
    transformer = family.load("transformer", device="cpu", dtype="float32")
    assert [type(block).__name__ for block in family.blocks(transformer)] == ["SkyReelsV2TransformerBlock"] * 2


def test_a_film_is_decoded_in_the_memory_of_a_piece(family: SkyreelsFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wan_facts, "PIECE_BYTES", 0)
    vae: Any = family.load("vae", device="cpu", dtype="float32")
    latents = torch.randn(1, 4, 6, 4, 6, generator=torch.Generator().manual_seed(0))
    mean, spread = latent_statistics(vae)
    with torch.no_grad():
        theirs = to_frames(vae.decode(latents * spread + mean).sample[0])
    plan = plan_of(family, width=48, height=32, num_frames=21)
    pieces = list(family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae)))
    assert [piece.shape for piece in pieces] == [(1, 32, 48, 3), *[(4, 32, 48, 3)] * 5]
    # One level: both round, and sums in another order may fall on the other side of a half.
    assert int(np.abs(np.concatenate(pieces).astype(int) - theirs).max()) <= 1


@pytest.mark.parametrize(("fps", "index"), [(8, 0), (16, 0), (19, 0), (21, 1), (24, 1), (60, 1)])
def test_the_pace_is_the_nearest_that_the_model_knows(fps: float, index: int) -> None:
    assert nearest_pace(fps) == index


def test_noise_of_known_frames_is_each_steps_own_and_always_the_same() -> None:
    shape = (1, 4, 5, 8, 8)
    drawn = [known_noise(shape, seed=s, stage=w, step=t) for s, w, t in [(7, 1, 0), (7, 1, 1), (7, 2, 0), (8, 1, 0)]]
    drawn.append(torch.randn(shape, generator=torch.Generator().manual_seed(7)))
    for index, noise in enumerate(drawn):
        assert abs(float(noise.std()) - 1) < 0.1, "1280 numbers: 0.1 is five times the spread of this figure"
        assert not any(torch.equal(noise, other) for other in drawn[:index])
    assert torch.equal(drawn[0], known_noise(shape, seed=7, stage=1, step=0))


def test_opening_a_model_needs_no_torch(folder: Path) -> None:
    heavy = "{'torch', 'diffusers', 'transformers'}"
    code = (
        "import sys; from homereel.models.registry import model_facts; facts = model_facts(sys.argv[1]); "
        f"facts.shapes(width=32, height=32, num_frames=41, dtype='bfloat16'); assert not {heavy} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
