"""What is told of a LoRA from its file alone; and files that are none, or damaged."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from homereel.core.errors import WeightsError
from homereel.weights.lora.apply import apply_loras, network_shapes
from homereel.weights.lora.match import match_lora
from homereel.weights.lora.report import inspect_lora
from homereel.weights.lora.settings import lora_expert, lora_settings
from tests.tiny_loras import (
    factors,
    in_layout,
    lora_of,
    save_lora,
)


@pytest.mark.parametrize(
    ("key", "method"),
    [
        ("blocks.0.self_attn.q.dora_scale", "DoRA"),
        ("blocks.0.self_attn.q.lora_magnitude_vector", "DoRA"),
        ("blocks.0.self_attn.q.lokr_w1", "LoKr"),
        ("blocks.0.self_attn.q.hada_w2_b", "LoHa"),
        ("blocks.0.self_attn.q.lora_mid.weight", "LoCon"),
        ("blocks.0.self_attn.q.oft_blocks", "OFT"),
    ],
)
def test_other_methods_are_named_and_refused(tmp_path: Path, network: nn.Module, key: str, method: str) -> None:
    tensors = in_layout("comfyui", factors(network))
    lora = lora_of(tmp_path, {**tensors, f"diffusion_model.{key}": torch.zeros(24, 24)})
    report = inspect_lora(lora.path)
    assert report.family == "wan"
    assert len(report.methods) == 1
    assert method in report.methods[0]
    assert match_lora(lora, network_shapes(network)).changes == ()
    with pytest.raises(WeightsError, match=method):
        apply_loras(network, [(lora, 1.0)])


@pytest.mark.parametrize(
    ("stem", "title", "expert"),
    [
        ("wan2.2_i2v_A14b_high_noise_lora_rank64_lightx2v_4step_1022", "", "transformer"),
        ("wan2.2_t2v_lightx2v_4steps_lora_v1.1_low_noise", "", "transformer_2"),
        ("Wan2.2-Lightning_I2V-A14B-4steps-lora_HIGH_fp16", "", "transformer"),
        ("246838-wan22_14B-low-style-e459", "", "transformer_2"),
        ("Instagirlv2.0_hinoise", "", "transformer"),
        ("mine", "wan2.2 low noise", "transformer_2"),
        ("high_quality_style", "", None),
        ("wan2.2_high_and_low_noise", "", None),
        ("style", "", None),
    ],
)
def test_experts_by_name(tmp_path: Path, network: nn.Module, stem: str, title: str, expert: str | None) -> None:
    lora = lora_of(tmp_path, in_layout("comfyui", factors(network)), name=stem, **{"modelspec.title": title})
    assert lora_expert(inspect_lora(lora.path)) == expert


@pytest.mark.parametrize(
    ("stem", "steps", "sampler"),
    [
        ("Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32", 4, "euler"),
        ("wan2.2_i2v_A14b_high_noise_lora_rank64_lightx2v_4step_1022", 4, "euler"),
        ("Wan2.2-Lightning_I2V-A14B-4steps-lora_HIGH_fp16", 4, "euler"),
        ("Wan21_CausVid_14B_T2V_lora_rank32_v2", 8, "unipc"),
        ("FastWan_T2V_14B_480p_lora_rank_128_bf16", 3, None),
        ("my_style_14_step2000", None, None),
    ],
)
def test_few_steps_by_name(
    tmp_path: Path, network: nn.Module, stem: str, steps: int | None, sampler: str | None
) -> None:
    report = inspect_lora(lora_of(tmp_path, in_layout("comfyui", factors(network)), name=stem).path)
    settings = lora_settings(report)
    assert (settings.steps if settings else None) == steps
    assert bool(report.distilled) == bool(settings)
    if settings:
        assert (settings.guidance, settings.sampler) == (1.0, sampler)
        if settings.sigmas:
            assert len(settings.sigmas) == (settings.steps or 0) + 1
            assert settings.sigmas[-1] == 0


def test_times_of_four_steps_are_the_makers() -> None:
    """Wan2.2-Lightning's authors name 1000, 937.5001, 833.3333, 625 as the only times it was trained for."""
    from homereel.weights.lora.settings import find_settings

    settings = find_settings("wan", texts=("lightning",))
    assert settings is not None
    assert settings.sigmas == pytest.approx((1, 0.9375, 0.833333, 0.625, 0), abs=1e-6)
    assert find_settings("hunyuanvideo-1.5", texts=("lightning",)) is None


def test_a_generic_name_takes_its_folders(tmp_path: Path, network: nn.Module) -> None:
    folder = tmp_path / "Wan2.2-T2V-A14B-4steps-lora-rank64-Seko-V1"
    folder.mkdir()
    report = inspect_lora(lora_of(folder, in_layout("original", factors(network)), name="low_noise_model").path)
    assert report.distilled == "Wan2.2-Lightning"
    assert lora_expert(report) == "transformer_2"


def test_metadata_is_told(tmp_path: Path, network: nn.Module) -> None:
    metadata = {
        "modelspec.title": "Cake",
        "modelspec.author": "somebody",
        "ss_base_model_version": "wan2.1_14b",
        "modelspec.trigger_phrase": "c4ke, it is cake",
        "ss_tag_frequency": json.dumps({"1_a": {"cake": 3, "knife": 5}, "1_b": {"cake": 4}, "1_c": 5}),
    }
    report = inspect_lora(lora_of(tmp_path, in_layout("kohya", factors(network)), **metadata).path)
    assert (report.title, report.author, report.base_model) == ("Cake", "somebody", "wan2.1_14b")
    assert report.trigger_words == ("c4ke", "it is cake")
    assert report.tags == ("cake", "knife")
    odd = {"trigger_words": '["one", 2, "two"]', "ss_tag_frequency": "{"}
    report = inspect_lora(lora_of(tmp_path, in_layout("kohya", factors(network)), name="odd", **odd).path)
    assert (report.trigger_words, report.tags) == (("one", "two"), ())


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, network: nn.Module, keep: int) -> None:
    path = save_lora(tmp_path / "a.safetensors", in_layout("kohya", factors(network)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="fetch it again"):
        inspect_lora(path)


def test_pickles_and_what_is_no_lora_are_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for name, message in (("a.pt", "pickled"), ("a.safetensors", "not a safetensors file")):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(WeightsError, match=message):
            inspect_lora(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(WeightsError, match="is a folder"):
        inspect_lora(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read"):
        inspect_lora(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="holds no tensors"):
        inspect_lora(save_lora(tmp_path / "empty.safetensors", {}))
    with pytest.raises(WeightsError, match="is no LoRA"):
        inspect_lora(save_lora(tmp_path / "model.safetensors", {"blocks.0.attn1.to_q.weight": torch.zeros(2, 2)}))


@pytest.mark.parametrize("value", [torch.zeros(2), torch.tensor(float("nan")), torch.tensor(True)])
def test_an_alpha_that_is_no_number_is_told(tmp_path: Path, network: nn.Module, value: Tensor) -> None:
    tensors = in_layout("kohya", factors(network), alpha=4.0)
    tensors["lora_unet_head_head.alpha"] = value
    with pytest.raises(WeightsError, match="number"):
        apply_loras(network, [(lora_of(tmp_path, tensors), 1.0)])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]
)
def test_numbers_of_any_kind_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"first": torch.zeros(3), "a.alpha": torch.tensor(12, dtype=dtype), "z": torch.zeros(1)}
    assert lora_of(tmp_path, tensors).number("a.alpha") == 12


@pytest.mark.parametrize(
    ("tensors", "family", "base"),
    [
        ({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (4, 1536)}, "wan", "Wan 1.3B"),
        ({"lora_unet_blocks_0_self_attn_q.lora_down.weight": (4, 5120)}, "wan", "Wan 14B"),
        ({"blocks.0.ffn.net.0.proj.lora_A.weight": (4, 3072)}, "wan", "Wan 2.2 TI2V-5B"),
        (
            {
                "diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": (4, 5120),
                "diffusion_model.blocks.0.self_attn.q.diff": (5120, 5120),
            },
            "wan",
            "Wan 14B, picture to video",
        ),
        ({"lora_unet_vace_blocks_0_self_attn_q.lora_down.weight": (4, 1536)}, "wan", "Wan, of unknown size, VACE"),
        ({"lora_unet_double_blocks_0_img_attn_q.lora_down.weight": (4, 2048)}, "hunyuanvideo-1.5", "HunyuanVideo 1.5"),
        ({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (4, 3072)}, "", "HunyuanVideo 1 or Flux"),
        ({"diffusion_model.single_blocks.0.linear1.lora_A.weight": (4, 3072)}, "", "HunyuanVideo 1 or Flux"),
        ({"diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": (4, 4096)}, "ltx-2", "LTX-2"),
        ({"diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": (4, 2048)}, "", "LTX-Video before LTX-2"),
        ({"diffusion_model.transformer_blocks.7.audio_attn1.to_q.lora_A.weight": (4, 2048)}, "ltx-2", "unknown size"),
        ({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)}, "", "Stable Diffusion"),
        ({"something.else.lora_A.weight": (4, 320)}, "", "unknown"),
    ],
)
def test_families_and_sizes(tmp_path: Path, tensors: dict[str, tuple[int, ...]], family: str, base: str) -> None:
    sparse = {name: torch.zeros(shape, dtype=torch.float8_e4m3fn) for name, shape in tensors.items()}
    report = inspect_lora(save_lora(tmp_path / "a.safetensors", sparse))
    assert report.family == family
    assert base in report.base
    assert report.with_sound == any("audio" in name for name in tensors)
