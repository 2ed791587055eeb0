"""The parts of the HunyuanVideo-1.5 adapter: text, loading, masks that are not made, decoding, the step cache.

Parity of whole clips is tested in the engine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from homereel.core.errors import GenerationFailed, WeightsError
from homereel.core.inputs import Inputs
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import StepTime
from homereel.core.request import Request
from homereel.models.hunyuan import facts as hunyuan_facts
from homereel.models.hunyuan.facts import even_sigmas
from homereel.models.hunyuan.family import HunyuanConditions, HunyuanFamily, HunyuanText
from homereel.models.hunyuan.network import ExactTimes
from homereel.models.hunyuan.text import INSTRUCTION_TOKENS, MAX_GLYPH_TOKENS, ChatTokenizer, glyph_ids, glyph_text
from homereel.models.picture import to_frames
from homereel.models.registry import find_card, model_facts, model_family
from homereel.planning.plan import plan_clip
from tests.tiny_hunyuan import save_tiny_hunyuan

CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def words_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_hunyuan(tmp_path_factory.mktemp("tiny-hunyuan"))


@pytest.fixture(scope="module")
def picture_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-hunyuan-picture")
    return save_tiny_hunyuan(folder, picture=True, meanflow=True, guidance=1.0, shift=7.0)


def family_of(folder: Path) -> HunyuanFamily:
    family = model_family(str(folder))
    assert isinstance(family, HunyuanFamily)
    return family


def plan_of(family: HunyuanFamily, **wishes: int) -> Plan:
    request = Request(prompt="a red ball", model=family.model, seed=1)
    machine = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)
    return plan_clip(request.replace(**wishes), model=family, machine=machine, fresh_seed=0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flow(family: HunyuanFamily, network: Any, latents: Tensor, *, at: float = 900.0, passes: int = 0) -> Tensor:
    """One step, with guidance, of texts 7 and 5 tokens long; `passes` is how many calls are to be seen."""
    prompt, negative = (HunyuanText(noise(1, length, 16, seed=length), noise(1, 3, 12, seed=3)) for length in (7, 5))
    calls: list[None] = []
    velocity = family.velocity(
        network,
        latents,
        time=StepTime(stage=0, step=0, timestep=torch.tensor(at), next_timestep=0.0, sigma=at / 1000),
        plan=plan_of(family),
        conditions=HunyuanConditions(prompt, negative),
        on_pass=lambda: calls.append(None),
    )
    assert passes in (0, len(calls))
    return velocity


# -- text


@pytest.mark.parametrize(
    "prompt",
    [
        'a sign says "Hi"',
        'signs say "one", "two" and "one"',
        '“curly” and "straight" and “mixed"',
        "nothing's quoted",
        'empty ""',
        'a half "quote',
    ],
)
def test_quoted_texts_are_found_as_diffusers_does(prompt: str) -> None:
    from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import extract_glyph_texts

    assert glyph_text(prompt) == extract_glyph_texts(prompt)


@pytest.mark.parametrize("text", ['Text "Hi". ', 'Text "grün 店". ', 'Text "' + "x" * 300 + '". '])
def test_letters_are_byt5s(text: str) -> None:
    from transformers import ByT5Tokenizer

    theirs = ByT5Tokenizer()(text, max_length=MAX_GLYPH_TOKENS, truncation=True).input_ids
    assert glyph_ids(text) == theirs


def test_the_instruction_is_as_long_as_the_model_was_trained_with(words_dir: Path) -> None:
    tokenizer = ChatTokenizer(words_dir / "tokenizer" / "tokenizer.json", max_tokens=1000)
    one, other = tokenizer.ids("a red ball"), tokenizer.ids("green")
    same = next(index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    assert same == INSTRUCTION_TOKENS
    assert tokenizer.num_cut("a red ball") == 0
    assert tokenizer.num_cut("a" + " ball" * 1000) == 1 + 5, "with the five tokens that end the chat"


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        ChatTokenizer(tmp_path / "tokenizer.json", max_tokens=4)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="no tokenizer"):
        ChatTokenizer(tmp_path / "tokenizer.json", max_tokens=4)


def test_a_tokenizer_of_another_model_is_refused(words_dir: Path) -> None:
    family = family_of(words_dir)
    encoder: Any = family.load("text_encoder", **CPU)
    encoder.config.vocab_size = 100
    with pytest.raises(WeightsError, match="knows more words"):
        family.encode_words(encoder, "a red ball")


def test_the_letters_encoder_is_loaded_only_for_quoted_texts(words_dir: Path) -> None:
    family, lent = family_of(words_dir), []

    @contextmanager
    def use(name: str) -> Iterator[Any]:
        lent.append(name)
        yield family.load(name, **CPU)

    plan = plan_of(family)
    without = family.encode(Inputs(prompt="a red ball"), plan=plan, use=use)
    assert lent == ["text_encoder"]
    assert without.prompt.glyphs.shape == (1, 0, 12)
    family.encode(Inputs(prompt="a red ball", negative_prompt='"no"'), plan=plan, use=use)
    assert lent == ["text_encoder"] * 2 + ["text_encoder_2"]


# -- loading


@pytest.mark.parametrize("component", ["text_encoder", "text_encoder_2", "image_encoder", "transformer", "vae"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_loaded_as_diffusers_does(picture_dir: Path, component: str, dtype: str) -> None:
    """Under the same names, which LoRAs go by, and with the tables of positions that files lack."""
    from diffusers import HunyuanVideo15ImageToVideoPipeline

    pipeline = HunyuanVideo15ImageToVideoPipeline.from_pretrained(picture_dir, torch_dtype=getattr(torch, dtype))
    theirs = getattr(pipeline, component)
    ours = family_of(picture_dir).load(component, device="cpu", dtype=dtype)
    expected: dict[str, Any] = {**theirs.state_dict(), **dict(theirs.named_buffers())}
    found = {**ours.state_dict(), **dict(ours.named_buffers())}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        stays = name.endswith(".wo.weight")  # diffusers does so for float16 only
        assert tensor.dtype == (torch.float32 if stays else expected[name].dtype), name
        assert torch.equal(tensor.to(expected[name].dtype), expected[name]), name


def rename_as_older_files_do(folder: Path) -> None:
    file = folder / "image_encoder" / "model.safetensors"
    named = {f"vision_model.{name}": tensor for name, tensor in load_file(file).items()}
    save_file({**named, "vision_model.embeddings.position_ids": torch.arange(4)[None]}, file)


def test_older_names_of_siglip_are_known(picture_dir: Path, tmp_path: Path) -> None:
    before = family_of(picture_dir).load("image_encoder", **CPU).state_dict()
    folder = Path(shutil.copytree(picture_dir, tmp_path / "model"))
    rename_as_older_files_do(folder)
    after = family_of(folder).load("image_encoder", **CPU).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def cut_weights(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def drop_a_tensor(file: Path) -> None:
    state = load_file(file)
    state.pop(sorted(state)[0])
    save_file(state, file)


def add_a_tensor(file: Path) -> None:
    save_file({**load_file(file), "more": torch.zeros(3)}, file)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_2"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "fetch it again"),
        (Path.unlink, "not complete"),
        (drop_a_tensor, "lacks 1 of its tensors"),
        (add_a_tensor, "no use for, such as more"),
    ],
)
def test_damaged_weights_are_refused(
    words_dir: Path, tmp_path: Path, component: str, damage: Callable[[Path], None], message: str
) -> None:
    folder = Path(shutil.copytree(words_dir, tmp_path / "model"))
    damage(next((folder / component).glob("*.safetensors")))
    with pytest.raises(WeightsError, match=message):
        family_of(folder).load(component, **CPU)


# -- the transformer


class Squares(TorchDispatchMode):
    """Notes every tensor that any operation makes whose last two sides are both at least as long as the clip."""

    def __init__(self, side: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.side, self.found = side, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor) and tensor.ndim > 1 and min(tensor.shape[-2:]) >= self.side:
                self.found += 1
        return out


def test_no_mask_of_the_clip_is_ever_made(words_dir: Path) -> None:
    """With diffusers' own processor the same look finds one in each layer."""
    from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15AttnProcessor2_0

    family = family_of(words_dir)
    network: Any = family.load("transformer", **CPU)
    latents = noise(1, 4, 3, 5, 6)
    with Squares(3 * 5 * 6) as ours:
        found = flow(family, network, latents, passes=2)
    assert ours.found == 0
    for block in network.transformer_blocks:
        block.attn.set_processor(HunyuanVideo15AttnProcessor2_0())
    with Squares(3 * 5 * 6) as theirs:
        expected = flow(family, network, latents)
    assert theirs.found >= 2 * len(family.blocks(network))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_attention_is_asked_for_without_a_mask(words_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.attention_dispatch import dispatch_attention_fn as original

    from homereel.models.hunyuan import attention as hunyuan_attention

    family, masks = family_of(words_dir), []

    def look(*args: Any, attn_mask: Tensor | None, **others: Any) -> Any:
        masks.append(attn_mask)
        return original(*args, attn_mask=attn_mask, **others)

    monkeypatch.setattr(hunyuan_attention, "dispatch_attention_fn", look)
    flow(family, family.load("transformer", **CPU), noise(1, 4, 2, 3, 3), passes=2)
    assert masks == [None] * 2 * 3


def test_times_are_told_apart_in_bfloat16() -> None:
    """Between 512 and 1024 numbers in bfloat16 are four apart; two times that are closer must not become one."""
    from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15TimeEmbedding

    stock = HunyuanVideo15TimeEmbedding(16, use_meanflow=True)
    one, other = torch.tensor([859.2]), torch.tensor([858.4])
    assert torch.equal(ExactTimes(stock)(one, other), stock(one, other))
    stock = stock.to(torch.bfloat16)
    assert torch.equal(stock(one.bfloat16()), stock(other.bfloat16()))
    exact = ExactTimes(stock)
    assert exact(one).dtype == torch.bfloat16
    assert not torch.equal(exact(one), exact(other))
    assert not torch.equal(exact(one, one), exact(one, other))


def test_a_bfloat16_network_computes(words_dir: Path) -> None:
    family = family_of(words_dir)
    short, exact = (family.load("transformer", device="cpu", dtype=dtype) for dtype in ("bfloat16", "float32"))
    latents = noise(1, 4, 2, 3, 3)
    found, expected = flow(family, short, latents), flow(family, exact, latents)
    assert found.dtype == torch.float32
    # Eight bits of each number through three blocks, six times over by guidance.
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_the_step_cache_knows_the_blocks(words_dir: Path) -> None:
    from diffusers import FirstBlockCacheConfig

    family = family_of(words_dir)
    network: Any = family.load("transformer", **CPU)
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1

    for block in network.transformer_blocks:
        block.ff.register_forward_hook(count)
    steps = [noise(1, 4, 2, 3, 3, seed=seed) for seed in range(3)]
    plain = [flow(family, network, latents) for latents in steps]
    assert seen == 3 * 2 * 3, "steps, passes, blocks"
    for threshold, blocks in ((0.0, 18), (1e9, 2 * 3 + 2 * 2 * 1)):
        seen = 0
        network.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        cached = [flow(family, network, latents) for latents in steps]
        network.disable_cache()
        assert seen == blocks
        assert torch.equal(cached[0], plain[0])
        assert [torch.equal(*pair) for pair in zip(cached[1:], plain[1:], strict=True)] == [threshold == 0] * 2


# -- the autoencoder


def their_vae(folder: Path) -> Any:
    from diffusers import AutoencoderKLHunyuanVideo15

    return AutoencoderKLHunyuanVideo15.from_pretrained(folder / "vae")


def test_decoding_is_diffusers_own_without_its_mask(words_dir: Path) -> None:
    family, latents = family_of(words_dir), noise(1, 4, 3, 3, 4)
    vae: Any = family.load("vae", **CPU)
    with torch.no_grad():
        expected = their_vae(words_dir).decode(latents / 1.03682).sample[0]
    with Squares(3 * 3 * 4) as look:
        found = vae.decoder.mid_block.attentions[0](noise(1, 8, 3, 3, 4))
    assert look.found == 0
    with torch.no_grad():
        theirs = their_vae(words_dir).decoder.mid_block.attentions[0](noise(1, 8, 3, 3, 4))
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
    plan = plan_of(family, width=64, height=48, num_frames=9)
    frames, sound = family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae))
    assert sound is None
    # One level: both round, and sums in another order may fall on the other side of a half.
    assert int(np.abs(to_frames(expected).astype(int) - frames).max()) <= 1


def test_large_clips_are_decoded_in_tiles(words_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, latents = family_of(words_dir), noise(1, 4, 2, 18, 17)
    vae: Any = family.load("vae", **CPU)
    plan = plan_of(family, width=272, height=288, num_frames=5)
    whole = family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae))[0]
    monkeypatch.setattr(hunyuan_facts, "WHOLE_DECODE_BYTES", 0)
    tiled = family.decode(latents, plan=plan, use=lambda _name: nullcontext(vae))[0]
    stock = their_vae(words_dir)
    stock.enable_tiling()
    with torch.no_grad():
        expected = to_frames(stock.decode(latents / 1.03682).sample[0])
    assert int(np.abs(expected.astype(int) - tiled).max()) <= 1
    assert tiled.shape == whole.shape
    assert not np.array_equal(tiled, whole), "else one of them is not what it says"


def test_frames_that_are_not_finite_fail(words_dir: Path) -> None:
    family = family_of(words_dir)
    vae = family.load("vae", **CPU)
    plan = plan_of(family, width=48, height=48, num_frames=5)
    broken = torch.full((1, 4, 2, 3, 3), torch.nan)
    with pytest.raises(GenerationFailed, match="not finite"):
        family.decode(broken, plan=plan, use=lambda _name: nullcontext(vae))
    assert family.preview(0, broken, plan=plan, use=lambda _name: nullcontext(vae)).shape == (5, 16, 16, 3)


# -- what is said of a model before it is loaded


def test_a_folder_tells_its_own_settings(words_dir: Path, picture_dir: Path) -> None:
    words, picture = model_facts(str(words_dir)), model_facts(str(picture_dir))
    assert (words.inputs, words.required) == (frozenset({"text"}), frozenset())
    assert (picture.inputs, picture.required) == (frozenset({"text", "image"}), frozenset({"image"}))
    assert (words.defaults.shift, words.defaults.guidance, words.defaults.sampler) == (5.0, 6.0, "euler")
    assert (picture.defaults.shift, picture.defaults.guidance) == (7.0, 1.0)
    assert "image_encoder" in picture.components
    assert "image_encoder" not in words.components
    named = set(picture.files())
    assert {"tokenizer/tokenizer.json", "feature_extractor/preprocessor_config.json"} < named
    assert all(any(file.startswith(part + "/") for file in named) for part in picture.components)


def test_facts_need_no_torch(picture_dir: Path) -> None:
    program = """
import sys
from homereel.core.machine import Machine
from homereel.core.request import Request
from homereel.models.registry import model_facts
from homereel.planning.plan import plan_clip
facts = model_facts(sys.argv[1])
machine = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)
request = Request(prompt="a ball", model=facts.model, image="first.png")
plan = plan_clip(request, model=facts, machine=machine, fresh_seed=0)
assert facts.stages(plan)[0].sigmas[-1] == 0 and facts.files() and facts.vocabulary() == ()
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(picture_dir)], check=True, timeout=120)


def test_remarks(words_dir: Path, picture_dir: Path) -> None:
    facts = model_facts(str(words_dir))
    assert facts.remarks(Request(prompt='a red ball says "Hi"')) == ()
    told = facts.remarks(Request(prompt=f'a "{"x" * 300}" sign', negative_prompt="a" + " ball" * 1200))
    assert len(told) == 2
    assert "has in quotes is 54 letters too long" in told[0]
    assert "the negative prompt is 206 tokens too long" in told[1], "with the end of the chat"
    assert "needs no guidance" not in " ".join(told)
    assert "to need no guidance; 3 doubles" in model_facts(str(picture_dir)).remarks(Request(prompt="a", guidance=3))[0]


@pytest.mark.parametrize(("steps", "shift"), [(1, 5.0), (8, 7.0), (50, 9.0)])
def test_times_are_the_pipelines_own(steps: int, shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps, sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])
    assert list(even_sigmas(steps, shift=shift)) == scheduler.sigmas.tolist()


@pytest.mark.parametrize(
    ("ending", "steps", "guidance", "shift"),
    [
        *(("480p-t2v", 50, 6, 5), ("480p-i2v", 50, 6, 5), ("720p-t2v", 50, 6, 9), ("720p-i2v", 50, 6, 7)),
        *(("480p-t2v-distilled", 50, 1, 5), ("480p-i2v-distilled", 50, 1, 5), ("720p-i2v-distilled", 50, 1, 7)),
        ("480p-i2v-step-distilled", 12, 1, 7),
    ],
)
def test_the_catalogue_has_the_makers_settings(ending: str, steps: int, guidance: float, shift: float) -> None:
    card = find_card(f"hunyuanvideo-1.5-{ending}")
    clip = card.defaults.settled()
    assert (clip.steps, clip.guidance, clip.shift, clip.num_frames, clip.fps) == (steps, guidance, shift, 121, 24)
    assert card.supported
    assert card.licence.kind == "regional"


def test_memory_at_720p_is_that_of_a_tile(words_dir: Path) -> None:
    """The real figures: without tiles the widest layer alone would be 28 GB."""
    tiny = family_of(words_dir)
    config = replace(tiny.config, features=2048, feed_forward=8192, latent_channels=32, decoder_features=128)
    facts = replace(tiny, config=config)
    shapes = facts.shapes(width=1280, height=720, num_frames=121, dtype="bfloat16")
    assert shapes.latents == (1, 32, 31, 45, 80)
    assert shapes.num_tokens == 111_600
    assert 5.8e9 < shapes.denoise_bytes < 7e9, "tensors alive in a block of this size, counted: 5.8 GB"
    assert facts.widest_layer_bytes(shapes.latents, item_bytes=2) > 28e9
    assert 14.3e9 < shapes.decode_bytes < 20e9, "counted in a tile: 14.3 GB, and the frames themselves"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("transformer/config.json", {"in_channels": 8}, "8 channels in; known are 9"),
        ("transformer/config.json", {"patch_size": 0}, "no counts"),
        ("transformer/config.json", {"attention_head_dim": None}, "no complete"),
        ("vae/config.json", {"block_out_channels": []}, "no complete"),
        ("scheduler/scheduler_config.json", {"shift": -1}, "names the shift -1"),
        ("guider/guider_config.json", {"guidance_scale": "six"}, "names the guidance 'six'"),
        ("guider/guider_config.json", {"guidance_rescale": 0.7}, "guider asks for guidance_rescale 0.7"),
    ],
)
def test_configurations_that_cannot_be_are_refused(
    words_dir: Path, tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(words_dir, tmp_path / "model"))
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **change}))
    with pytest.raises(WeightsError, match=message):
        model_facts(str(folder))


def test_a_guider_that_is_off_means_no_guidance(words_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(words_dir, tmp_path / "model"))
    (folder / "guider" / "guider_config.json").write_text(json.dumps({"enabled": False, "guidance_scale": 6.0}))
    assert model_facts(str(folder)).defaults.guidance == 1
