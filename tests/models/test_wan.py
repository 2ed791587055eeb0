"""The parts of the Wan adapter: text, pictures, loading, decoding. Parity of whole clips is tested in the
engine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from homereel.core.errors import GenerationFailed, WeightsError
from homereel.core.inputs import Inputs, PlacedPicture
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import Use
from homereel.core.request import Request
from homereel.models.picture import fit_picture, to_frames
from homereel.models.registry import model_family
from homereel.models.text import Tokenizer, clean_prompt
from homereel.models.wan import facts as wan_facts
from homereel.models.wan.family import WanFamily
from homereel.planning.plan import plan_clip
from tests.tiny_models import MAX_TOKENS


def family_of(folder: Path) -> WanFamily:
    family = model_family(str(folder))
    assert isinstance(family, WanFamily)
    return family


def plan_of(family: WanFamily, **wishes: int) -> Plan:
    request = Request(prompt="a red ball", model=family.model, seed=1)
    machine = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)
    return plan_clip(request.replace(**wishes), model=family, machine=machine, fresh_seed=0)


def lend(part: Any) -> Use:
    return lambda _name: nullcontext(part)


@pytest.mark.parametrize(
    "text",
    [
        "  a  red\tball \n",
        "a < b &amp;amp; c",
        "a &amp;lt;b&amp;gt; ball",
        "it\u2019s \u201cred\u201d",
        "na\u00c3\u00afve",
    ],
)
def test_prompts_are_cleaned_as_diffusers_does(text: str) -> None:
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    assert clean_prompt(text) == prompt_clean(text)


@pytest.mark.parametrize("text", ["a red ball", "", "an Astronaut", "red " * 40])
def test_text_is_encoded_as_in_diffusers_pipeline(tiny_model_dir: Path, text: str) -> None:
    from diffusers import WanPipeline

    family = family_of(tiny_model_dir)
    pipeline = WanPipeline.from_pretrained(tiny_model_dir)
    with torch.no_grad():
        theirs = pipeline.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS)[0]
    ours = family.encode_text(family.load("text_encoder", device="cpu", dtype="float32"), text)
    assert ours.shape == (1, MAX_TOKENS, 16)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("component", ["text_encoder", "transformer", "vae"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_loaded_as_diffusers_does(tiny_image_model_dir: Path, component: str, dtype: str) -> None:
    from diffusers import WanPipeline

    theirs = getattr(WanPipeline.from_pretrained(tiny_image_model_dir, torch_dtype=getattr(torch, dtype)), component)
    ours = family_of(tiny_image_model_dir).load(component, device="cpu", dtype=dtype)
    expected: dict[str, Any] = {**theirs.state_dict(), **dict(theirs.named_buffers())}
    found = {**ours.state_dict(), **dict(ours.named_buffers())}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name


def cut_weights(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def remove_weights(folder: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()


def reshape_weights(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["proj_out.bias"] = torch.zeros(3)
    save_file(state, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut_weights, "fetch it again"), (remove_weights, "not complete"), (reshape_weights, r"proj_out.bias has shape")],
)
def test_damaged_weights_are_refused(
    tiny_model_dir: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        family_of(folder).load("transformer", device="cpu", dtype="float32")


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        Tokenizer(tmp_path / "tokenizer.json", max_tokens=4)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="no tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json", max_tokens=4)


@pytest.mark.parametrize("piece_bytes", [10**9, 0])
def test_decoding_is_diffusers_own_in_pieces_of_any_length(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(wan_facts, "PIECE_BYTES", piece_bytes)
    family = family_of(tiny_model_dir)
    vae: Any = family.load("vae", device="cpu", dtype="float32")
    latents = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    plan = plan_of(family, width=32, height=32, num_frames=13)
    pieces = list(family.decode(latents, plan=plan, use=lend(vae)))
    assert [len(piece) for piece in pieces] == ([1, 12] if piece_bytes else [1, 4, 4, 4])
    mean, spread = (
        torch.tensor(part).view(1, 4, 1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std)
    )
    with torch.no_grad():
        theirs = to_frames(vae.decode(latents * spread + mean).sample[0])
    # One level: both round, and sums in another order may fall on the other side of a half.
    assert int(np.abs(theirs.astype(int) - np.concatenate(pieces)).max()) <= 1
    assert family.decode_sound(latents, plan=plan, use=lend(vae)) is None


def test_frames_that_are_not_finite_fail_with_their_place(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = family_of(tiny_model_dir)
    vae = family.load("vae", device="cpu", dtype="float32")
    latents = torch.zeros(1, 4, 3, 4, 4)
    latents[:, :, 2] = torch.nan
    plan = plan_of(family, width=32, height=32, num_frames=9)
    with pytest.raises(GenerationFailed, match="among frames 1 to 8 some were decoded to numbers that are not finite"):
        list(family.decode(latents, plan=plan, use=lend(vae)))
    monkeypatch.setattr(wan_facts, "PIECE_BYTES", 0)
    decoded = family.decode(latents, plan=plan, use=lend(vae))
    assert [len(next(decoded)) for _ in range(2)] == [1, 4], "what comes before is handed over"
    with pytest.raises(GenerationFailed, match="frames 5 to 8"):
        next(decoded)


def test_a_preview_is_small_and_never_fails(tiny_model_dir: Path) -> None:
    family = family_of(tiny_model_dir)
    vae = family.load("vae", device="cpu", dtype="float32")
    plan = plan_of(family, width=32, height=64, num_frames=9)
    preview = family.preview(0, torch.randn(1, 4, 3, 8, 4), plan=plan, use=lend(vae))
    assert preview.shape == (8, 32, 16, 3)
    assert preview.dtype == np.uint8
    broken = torch.full((1, 4, 3, 8, 4), torch.nan)
    assert family.preview(0, broken, plan=plan, use=lend(vae)).shape == (8, 32, 16, 3)


def test_a_first_frame_is_kept_and_its_time_is_zero(tiny_image_model_dir: Path) -> None:
    family = family_of(tiny_image_model_dir)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    plan = plan_of(family, width=32, height=32, num_frames=5)

    def use(name: str) -> AbstractContextManager[Any]:
        return nullcontext(family.load(name, device="cpu", dtype="float32"))

    conditions = family.encode(
        Inputs("a ball", pictures=(PlacedPicture(0, image),)),
        plan=plan,
        use=use,
        words=family.read_words(["a ball", ""], use=use),
    )
    first = conditions.first_frame
    assert first is not None
    assert first.shape == (1, 4, 1, 4, 4)
    latents = torch.randn(1, 4, 2, 4, 4)
    settled = family.finish(0, latents, plan=plan, conditions=conditions, done=None)
    assert torch.equal(settled[:, :, :1], first)
    assert torch.equal(settled[:, :, 1:], latents[:, :, 1:])
    times = family._times(latents, timestep=torch.tensor(500), conditions=conditions)
    assert times.tolist() == [[0.0] * 4 + [500.0] * 4]


def test_a_picture_is_made_to_cover(tiny_image_model_dir: Path) -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 255
    picture = fit_picture(image, width=32, height=32)
    assert picture.shape == (3, 32, 32)
    assert float(picture.min()) > 0.5, "the dark sides overhang and are cut off"
    exact = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    assert np.array_equal(to_frames(fit_picture(exact, width=32, height=32)[:, None])[0], exact)


def test_the_blocks_are_found_for_passes(tiny_model_dir: Path) -> None:
    family = family_of(tiny_model_dir)
    transformer = family.load("transformer", device="cpu", dtype="float32")
    assert [type(block).__name__ for block in family.blocks(transformer)] == ["WanTransformerBlock"] * 2
    assert family.denoiser(999.0) == "transformer"
