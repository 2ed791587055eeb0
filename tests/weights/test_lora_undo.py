"""LoRAs are applied as a whole or not at all, and taken out again bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from homereel.core.errors import WeightsError
from homereel.weights.lora.apply import apply_loras
from homereel.weights.lora.file import LoraFile
from tests.tiny_loras import (
    LAYERS,
    factors,
    in_layout,
    lora_of,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_undo_restores_every_bit(tmp_path: Path, network: nn.Module, dtype: torch.dtype) -> None:
    network.to(dtype)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one = lora_of(tmp_path, in_layout("kohya", factors(network, seed=7)), name="one")
    two = lora_of(tmp_path, in_layout("comfyui", factors(network, seed=8)), name="two")
    first = apply_loras(network, [(one, 0.3)])
    second = apply_loras(network, [(two, -1.7), (one, 0.9)])
    assert first.kept_bytes == sum(before[f"{layer}.weight"].nbytes for layer in LAYERS.values())
    assert not torch.equal(network.state_dict()["proj_out.weight"], before["proj_out.weight"])
    for applied in (second, first, first):
        applied.undo()
    assert first.kept_bytes == 0
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_all_or_nothing(tmp_path: Path, network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    good = lora_of(tmp_path, in_layout("kohya", factors(network)), name="good")
    foreign = lora_of(
        tmp_path,
        {"lora_unet_down_blocks_0_attn.lora_down.weight": torch.zeros(4, 8)},
        name="foreign",
    )
    broken = in_layout("kohya", factors(network))
    broken["lora_unet_head_head.lora_up.weight"][0, 0] = float("inf")
    cases: dict[str, LoraFile] = {
        "nothing that applies.*Stable Diffusion": foreign,
        "not finite": lora_of(tmp_path, broken, name="broken"),
    }
    for message, bad in cases.items():
        with pytest.raises(WeightsError, match=message):
            apply_loras(network, [(good, 1.0), (bad, 1.0)])
    gone = lora_of(tmp_path, in_layout("kohya", factors(network)), name="gone")
    gone.path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        apply_loras(network, [(good, 1.0), (gone, 1.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_failure_midway_leaves_nothing_behind(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    from homereel.weights.lora import apply as lora_apply

    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lora = lora_of(tmp_path, in_layout("kohya", factors(network)))
    real, calls = lora_apply._halves, []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError
        return real(*arguments, **options)

    monkeypatch.setattr(lora_apply, "_halves", failing)
    with pytest.raises(MemoryError):
        apply_loras(network, [(lora, 1.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
