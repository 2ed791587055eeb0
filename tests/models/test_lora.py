"""The LoRA doctor over the catalogue: which models a LoRA may fit, and the comparison with one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from homereel.core.errors import InvalidRequest, UnknownModel
from homereel.core.request import LoraUse
from homereel.models.catalogue import CATALOGUE
from homereel.models.lora import check_lora, known_shapes, loras_for, models_for_lora, settings_for
from homereel.weights.lora.report import inspect_lora
from homereel.weights.model_folder import ModelFolder, packaged_folder
from tests.tiny_loras import save_lora


def lora_for(folder: Path, width: int, *layers: str, name: str = "a") -> Path:
    """A LoRA of rank 1 for some square layers, by the makers' names."""
    tensors = {}
    for layer in layers or ("blocks.0.self_attn.q",):
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = torch.zeros(1, width)
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = torch.zeros(width, 1)
    return save_lora(folder / f"{name}.safetensors", tensors)


@pytest.mark.parametrize(
    ("width", "layer", "name", "expected"),
    [
        (1536, "blocks.0.self_attn.q", "a", ("wan2.1-t2v-1.3b", "14b")),
        (5120, "blocks.0.self_attn.q", "a", ("wan2.1-t2v-14b", "1.3b")),
        (5120, "blocks.0.cross_attn.k_img", "a", ("wan2.1-i2v-14b-480p", "1.3b")),
        (5120, "blocks.0.self_attn.q", "wan2.2_i2v_high_noise", ("wan2.2-i2v-a14b", "1.3b")),
        (5120, "blocks.0.self_attn.q", "wan22-t2v-style", ("wan2.2-t2v-a14b", "1.3b")),
        (5120, "vace_blocks.0.self_attn.q", "a", ("wan2.1-vace-14b", "1.3b")),
        (3072, "blocks.0.self_attn.q", "a", ("wan2.2-ti2v-5b", "14b")),
        (2048, "double_blocks.0.img_attn_q", "a", ("hunyuanvideo-1.5-480p-t2v", "wan")),
        (4096, "transformer_blocks.0.attn1.to_q", "a", ("ltx-2.5", "wan")),
    ],
)
def test_the_likeliest_model_comes_first(
    tmp_path: Path, width: int, layer: str, name: str, expected: tuple[str, str]
) -> None:
    layers = [layer]
    if "k_img" in layer or "vace" in layer:  # the width is known from the common blocks
        layers.append("blocks.0.self_attn.q")
    fitting = models_for_lora(inspect_lora(lora_for(tmp_path, width, *layers, name=name)))
    first, never = expected
    assert fitting[0] == first
    assert not any(never in model for model in fitting)


def test_a_model_that_is_not_here_is_compared_by_its_known_shapes(tmp_path: Path) -> None:
    layers = ("blocks.39.self_attn.q", "blocks.40.self_attn.q", "blocks.0.cross_attn.k_img")
    found = check_lora(lora_for(tmp_path, 5120, *layers), model="wan2.1-t2v-14b")
    assert "not on this machine" in found.how
    assert found.match is not None
    assert len(found.match.matched) == 2
    assert {entry.reason for entry in found.match.unmatched} == {"the model has no such layer"}
    assert found.usable
    from_picture = check_lora(lora_for(tmp_path, 5120, *layers), model="wan2.1-i2v-14b-480p")
    assert from_picture.match is not None
    assert len(from_picture.match.matched) == 4
    small = check_lora(lora_for(tmp_path, 5120, *layers), model="wan2.1-t2v-1.3b")
    assert not small.usable
    assert small.match is not None
    assert len(small.match.unmatched) == 6


def test_a_folder_is_compared_by_its_files(tmp_path: Path, tiny_model_dir: Path) -> None:
    found = check_lora(lora_for(tmp_path, 24), model=str(tiny_model_dir))
    assert (found.how, found.candidates) == ("its files", ())
    assert found.match is not None
    assert found.match.num_parameters == 1


def test_the_built_in_model_knows_its_own(tmp_path: Path) -> None:
    folder = packaged_folder("pocket")
    if folder is None:
        pytest.skip("this checkout has no built-in model")
    width = folder.tensors("transformer")["blocks.0.attn1.to_q.weight"].shape[0]
    found = check_lora(lora_for(tmp_path, width))
    assert (found.candidates, found.model, found.how) == (("pocket",), "pocket", "its files")
    assert found.usable


def test_what_cannot_be_compared_says_so(tmp_path: Path) -> None:
    path = lora_for(tmp_path, 4096, "transformer_blocks.0.attn1.to_q")
    found = check_lora(path)
    assert (found.match, found.model) == (None, "")
    assert "not compared" in found.how
    with pytest.raises(InvalidRequest, match=r"models pull ltx-2\.5"):
        check_lora(path, model="ltx-2.5")
    with pytest.raises(UnknownModel, match=r"wan2\.1"):
        check_lora(path, model="wan2.1-t2v-14")


def test_each_expert_gets_its_own(tmp_path: Path) -> None:
    names = ("wan2.2_high_noise", "wan2.2_low_noise", "style")
    uses = [LoraUse(path=lora_for(tmp_path, 5120, name=name), strength=0.5) for name in names]

    def chosen(component: Literal["transformer", "transformer_2"], *, two_experts: bool = True) -> list[str]:
        given = loras_for(uses, component=component, two_experts=two_experts)
        assert all(strength == 0.5 for _, strength in given)
        return [lora.path.stem for lora, _ in given]

    assert chosen("transformer") == [names[0], "style"]
    assert chosen("transformer_2") == [names[1], "style"]
    assert chosen("transformer", two_experts=False) == list(names)
    uses[2] = LoraUse(path=uses[0].path, strength=0.5, expert="low")
    assert chosen("transformer") == [names[0]]
    assert chosen("transformer_2") == [names[1], names[0]]


def test_few_steps_of_a_request(tmp_path: Path) -> None:
    style, fast = (lora_for(tmp_path, 5120, name=name) for name in ("style", "lightx2v"))
    settings = settings_for([LoraUse(path=style), LoraUse(path=fast)])
    assert settings is not None
    assert settings.steps == 4
    assert settings_for([LoraUse(path=style), LoraUse(path=fast, strength=0)]) is None


def test_known_shapes_are_those_of_real_models() -> None:
    """Sizes in parameters as their makers give them; a wrong figure in a configuration would show here."""
    import math

    billions = {
        model: sum(math.prod(shape) for shape in (known_shapes(model) or {}).values()) / 1e9
        for model in ("wan2.1-t2v-1.3b", "wan2.1-i2v-14b-480p", "wan2.2-ti2v-5b", "hunyuanvideo-1.5-480p-t2v")
    }
    assert billions == pytest.approx(
        {
            "wan2.1-t2v-1.3b": 1.42,
            "wan2.1-i2v-14b-480p": 16.4,  # 32.8 GB in bfloat16
            "wan2.2-ti2v-5b": 5.0,
            "hunyuanvideo-1.5-480p-t2v": 8.3,
        },
        rel=0.02,
    )
    assert known_shapes("ltx-2.5") is None


def test_every_configuration_belongs_to_a_model() -> None:
    from homereel.models import lora

    assert set(lora._CONFIGS) <= {card.id for card in CATALOGUE}


def test_shapes_of_an_installed_folder_need_no_second_expert(tiny_model_dir: Path) -> None:
    """A LoRA for little noise, compared with a model of one network, is compared with that."""
    from homereel.models.lora import _shapes

    folder = ModelFolder(tiny_model_dir)
    assert _shapes(folder, component="transformer_2") == _shapes(folder, component="transformer")
