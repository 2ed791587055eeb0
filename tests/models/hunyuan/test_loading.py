"""How the parts of a HunyuanVideo-1.5 are loaded, and which files are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from homereel.core.errors import WeightsError
from tests.models.hunyuan.calls import CPU, family_of


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
